import numpy as np
import pandas as pd
import pytest

from dbdiffusion.data import check_columns, check_contexts, check_texts, column_of

OBS = pd.DataFrame(
    {
        "batch": ["a", "b", "a"],
        "holes": ["a", None, "b"],
        "depth": [1.0, 2.0, 3.0],
        "zero": [1.0, 0.0, 3.0],
        "infinite": [1.0, np.inf, 3.0],
    }
)


@pytest.mark.parametrize(
    ("argument", "columns", "error", "match"),
    [
        ("batch_key", "bach", KeyError, "Did you mean 'batch'"),
        ("batch_key", "holes", ValueError, "missing values"),
        ("categorical_covariate_keys", ["batch", "holes"], ValueError, "holes"),
        ("continuous_covariate_keys", ["depth", "infinite"], ValueError, "infinite"),
        ("continuous_covariate_keys", ["batch"], ValueError, "finite numbers"),
        ("size_factor_key", "zero", ValueError, "above 0"),
    ],
)
def test_columns_that_cannot_be_used_are_named(argument, columns, error, match):
    with pytest.raises(error, match=match):
        check_columns(OBS, argument, columns)


def test_columns_that_can_be_used_pass():
    check_columns(OBS, "batch_key", None)
    check_columns(OBS, "batch_key", "batch")
    check_columns(OBS, "size_factor_key", "depth")
    check_columns(OBS, "continuous_covariate_keys", ["depth", "zero"])


def test_names_must_be_text():
    check_texts({"layer": None, "categorical_covariate_keys": ["a"]}, control="c")
    with pytest.raises(TypeError, match="`control` must be text, got 0"):
        check_texts({}, control=0)
    with pytest.raises(TypeError, match="`layer` must be text or None"):
        check_texts({"layer": 1})
    for value in ("a", [1], 3):
        with pytest.raises(TypeError, match="a list of columns"):
            check_texts({"categorical_covariate_keys": value})


@pytest.mark.parametrize(
    "values",
    [
        ["a", "b", "a"],
        [1, 2, 1],
        [1.5, 2.0, 1.5],
        [True, False, True],
        pd.Categorical(["a", "b", "a"]),
        pd.Categorical([3, 1, 3]),
        pd.array(["a", "b", "a"], dtype="string"),
        pd.array([1, 2, 1], dtype="Int64"),
        np.array([np.str_("a"), "b", "a"], dtype=object),
        np.array([np.int64(1), 2.5, np.bool_(True)], dtype=object),
    ],
)
def test_categories_are_text_or_numbers(values):
    check_columns(pd.DataFrame({"batch": values}), "batch_key", "batch")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([1, "1", "a"], dtype=object), "int.*str"),
        (pd.date_range("2020", periods=3), "datetime64"),
        (pd.timedelta_range("1h", periods=3), "timedelta64"),
        ([("a", 1)] * 3, "tuple"),
        ([["a"]] * 3, "list"),
        ([{"a": 1}] * 3, "dict"),
        (pd.Categorical([("a",), ("b",), ("a",)]), "tuple"),
        ([b"a", b"b", b"a"], "bytes"),
        (pd.interval_range(0, 3), "Interval"),
    ],
)
def test_categories_of_other_kinds_are_refused(values, kind):
    frame = pd.DataFrame({"batch": pd.Series(values)})
    for argument in ("batch_key", "context_key", "labels_key"):
        with pytest.raises(ValueError, match=rf"{argument}.*text, or numbers.*{kind}.*astype\(str\)"):
            check_columns(frame, argument, "batch")


def test_a_column_that_is_there_twice_is_refused():
    frame = pd.concat([OBS, OBS[["batch"]]], axis=1)
    with pytest.raises(ValueError, match=r"`batch_key` 'batch' is in adata\.obs more than once"):
        column_of(frame, "batch_key", "batch")
    assert column_of(frame, "size_factor_key", "depth").tolist() == [1, 2, 3]


def test_every_context_needs_control_cells():
    names = pd.Series(["control"] * 4 + ["A"] * 3)
    check_contexts(pd.Series([1, 1, 2, 2, 1, 2, 2]), names, "day", "control")
    with pytest.raises(ValueError, match=r"at least 2 cells of control.*'3'"):
        check_contexts(pd.Series([1, 1, 2, 2, 3, 3, 3]), names, "day", "control")
