import numpy as np
import pandas as pd
import pytest

from dbdiffusion.inference import Estimate, effects_table, to_cell_eval, to_pertpy


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    estimate = Estimate(rng.standard_normal((2, 5)), rng.uniform(0.5, 1, (2, 5)), np.full((2, 5), 9.0))
    names = np.array(["A+B vs WT", "C vs WT"], dtype=object)[:, None]
    return effects_table(["A+B", "C"], np.array(list("vwxyz")), estimate, np.ones((2, 5)), 0.95, {"contrast": names})


def test_pertpy_columns_are_sorted_inside_a_contrast(table):
    export = to_pertpy(table)
    assert list(export.columns) == ["variable", "log_fc", "p_value", "adj_p_value", "contrast"]
    assert export.groupby("contrast")["p_value"].apply(lambda p: p.is_monotonic_increasing).all()


def test_cell_eval_columns_say_the_same(table):
    export = to_cell_eval(table)
    assert set(export["reference"]) == {"WT"}
    assert np.array_equal(export["p_value"], table["p_value"])
    assert np.array_equal(export["fdr"], table["adj_p_value"])
    np.testing.assert_allclose(np.log2(export["fold_change"]) * np.log(2), table["effect"])
    np.testing.assert_allclose(export["target_mean"] - export["reference_mean"], table["effect"])


@pytest.fixture
def in_two_contexts(table):
    return pd.concat([table.assign(context=name) for name in ("early", "late")], ignore_index=True)


def test_pertpy_keeps_contexts_apart_in_the_column_that_it_reads(table, in_two_contexts):
    export = to_pertpy(in_two_contexts)
    assert list(export.columns) == ["variable", "log_fc", "p_value", "adj_p_value", "contrast", "context"]
    assert not export.duplicated(["contrast", "variable"]).any()
    assert set(export["contrast"]) == {
        f"{name} in {context}" for name in set(table["contrast"]) for context in ("early", "late")
    }
    assert export.groupby("contrast")["p_value"].apply(lambda p: p.is_monotonic_increasing).all()


def test_cell_eval_takes_one_context(table, in_two_contexts):
    with pytest.raises(ValueError, match=r"2 contexts.*one at a time"):
        to_cell_eval(in_two_contexts)
    one = to_cell_eval(in_two_contexts[in_two_contexts["context"] == "late"])
    pd.testing.assert_frame_equal(one, to_cell_eval(table))
