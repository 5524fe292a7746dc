"""Laws of the plot of pairs: every pair that has a number is named and drawn, the others are counted."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba

from dbdiffusion import plotting

mpl.use("agg")


def test_pairs_in_order_filled_where_they_are_called_and_the_rest_counted():
    import matplotlib.pyplot as plt

    table = pd.DataFrame({"pair": ["A+B", "C$+$D", "E+F", "G+H"], "along": [-0.4, 0.3, 0.0, np.nan]})
    table = table.assign(ci_low=table["along"] - 0.2, ci_high=table["along"] + 0.2, q_value=[0.01, 0.5, 0.04, 0.01])
    table["kind"] = ["buffering", "synergistic", "additive", "undecided"]
    _, ax = plt.subplots()
    assert plotting.pair_interactions(table, ax, title="pairs") is ax
    assert [label.get_text() for label in ax.get_yticklabels()] == ["C$+$D", "E+F", "A+B"]
    points = {one.get_label(): one for one in ax.collections if one.get_label() in set(table["kind"])}
    assert set(points) == {"buffering", "synergistic", "additive"}
    assert points["buffering"].get_offsets().tolist() == [[-0.4, 2.0]]
    assert tuple(points["synergistic"].get_facecolors()[0]) == to_rgba("white")
    assert tuple(points["additive"].get_facecolors()[0]) != to_rgba("white")
    assert "not shown: 1 of 4" in ax.get_xlabel()
    assert ax.get_title() == "pairs"
    plt.close(ax.figure)


def test_no_pair_is_an_empty_plot():
    import matplotlib.pyplot as plt

    table = pd.DataFrame(columns=["pair", "along", "ci_low", "ci_high", "kind", "q_value"])
    ax = plotting.pair_interactions(table)
    assert not ax.get_yticklabels()
    plt.close(ax.figure)
