import numpy as np
import pandas as pd
import pytest

from dbdiffusion.data import check_columns, check_texts

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
