"""What plots share: the rows of a target, quantiles to draw with."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dbdiffusion.plotting._panel import axes_of, rows_of, t_quantile, without_own


def test_quantiles_are_those_of_t():
    df = np.geomspace(1.5, 1e6, 50)
    for level in (0.8, 0.9):
        np.testing.assert_allclose(t_quantile(level, df), stats.t.ppf(level, df), rtol=0.02)


def test_a_new_axes_is_made_only_if_none_is_given():
    made = axes_of(None)
    assert axes_of(made) is made
    plt.close(made.figure)


def test_a_table_without_targets_is_drawn_whole():
    table = pd.DataFrame({"variable": ["A", "B"]})
    assert rows_of(table, "MYC") is table
    assert without_own(table) is table


def test_several_contexts_are_not_drawn_on_top_of_each_other():
    table = pd.DataFrame({"target": "MYC", "variable": ["A", "A"], "context": ["early", "late"]})
    with pytest.raises(ValueError, match="2 contexts"):
        rows_of(table, "MYC")
    assert len(rows_of(table[table["context"] == "late"], "MYC")) == 1


def test_own_genes_are_the_parts_of_the_name():
    table = pd.DataFrame({"target": "A+B", "variable": ["A", "B", "C"]})
    assert without_own(table)["variable"].tolist() == ["C"]


def test_own_genes_are_the_parts_by_the_separator_of_the_screen():
    table = pd.DataFrame({"target": "A_B", "variable": ["A", "B", "A_B", "C"]})
    table.attrs["combination_sep"] = "_"
    assert without_own(table)["variable"].tolist() == ["C"]
    table.attrs["combination_sep"] = ""
    assert without_own(table)["variable"].tolist() == ["A", "B", "C"]
