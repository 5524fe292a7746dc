"""Effects in order, listed genes among them."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from dbdiffusion.plotting import ranked_effects
from dbdiffusion.plotting._effects import _spread
from dbdiffusion.plotting._panel import GREY

G = 13


@pytest.fixture
def table():
    effect = np.random.default_rng(0).standard_normal(G)
    listed = np.abs(effect) > 0.7
    return pd.DataFrame(
        {
            "target": "GENE02",
            "variable": [f"GENE{i:02d}" for i in range(G)],
            "effect": effect,
            "lfsr": np.where(listed, 0.01, 0.4),
            "adj_p_value": np.where(listed, 0.08, 0.6),
        }
    )


def test_effects_rise_and_are_coloured_by_how_sure_their_signs_are(table):
    ax = Figure().subplots()
    assert ranked_effects(table, ax) is ax
    others = table[table["variable"] != "GENE02"].sort_values("effect")
    drawn = ax.collections[0]
    np.testing.assert_allclose(drawn.get_offsets(), np.column_stack([np.arange(1, G), others["effect"]]))
    np.testing.assert_allclose(drawn.get_array(), 1 - others["lfsr"])


def test_genes_of_which_no_sign_is_known_are_grey_and_seen(table):
    unknown = table["variable"] == "GENE05"
    ax = ranked_effects(table.assign(lfsr=table["lfsr"].mask(unknown)), Figure().subplots())
    ax.collections[0].update_scalarmappable()
    colours = ax.collections[0].get_facecolors()
    others = table[table["variable"] != "GENE02"].sort_values("effect")
    is_grey = np.isclose(colours, to_rgba(GREY)).all(axis=1)
    assert (colours[:, 3] == 1).all()
    np.testing.assert_array_equal(is_grey, others["variable"] == "GENE05")


def test_listed_genes_are_ringed_counted_and_the_largest_named(table):
    ax = ranked_effects(table, Figure().subplots(), n_labels=2)
    listed = table[(table["adj_p_value"] <= 0.1) & (table["variable"] != "GENE02")]
    assert len(ax.collections[1].get_offsets()) == len(listed)
    assert ax.get_title() == f"GENE02\n{len(listed)} genes at 10% wrong signs"
    largest = listed.sort_values("effect", key=abs).tail(2)
    assert {text.get_text() for text in ax.texts} == set(largest["variable"])


@pytest.mark.parametrize("missing", ["lfsr", "adj_p_value"])
def test_without_lists_or_errors_nothing_is_marked(table, missing):
    ax = ranked_effects(table.assign(**{missing: np.nan, "adj_p_value": np.nan}), Figure().subplots())
    assert len(ax.texts) == 0
    assert len(ax.collections[0].get_offsets()) == G - 1


def test_labels_keep_their_order_and_a_distance():
    heights = np.sort(np.random.default_rng(1).uniform(0, 3, 12))
    spread = _spread(heights, 0.4)
    assert (np.diff(spread) >= 0.4 - 1e-9).all()
    far = np.array([0.0, 1.0, 7.0])
    np.testing.assert_array_equal(_spread(far, 0.4), far)
    np.testing.assert_allclose(_spread(heights, 0.4).mean(), heights.mean(), atol=0.5)
    assert _spread(np.zeros(0), 0.4).size == 0
