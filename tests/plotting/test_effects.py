import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from dbdiffusion.plotting import gene_intervals, predicted_against_observed, ranked_effects, volcano

G = 11


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    effect = rng.standard_normal(G)
    p_value = np.linspace(1e-6, 0.9, G)[rng.permutation(G)]
    return pd.DataFrame(
        {
            "variable": [f"GENE{i:02d}" for i in range(G)],
            "effect": effect,
            "se": 0.25,
            "df": 8.0,
            "ci_low": effect - 0.5,
            "ci_high": effect + 0.7,
            "observed": effect + 0.1 * rng.standard_normal(G),
            "p_value": p_value,
            "lfsr": p_value / 2,
            "adj_p_value": np.where(p_value < 0.3, 0.01, 0.8),
        },
        index=np.arange(100, 100 + G),
    )


def points(ax, collection=-1):
    return np.asarray(ax.collections[collection].get_offsets())


def test_predicted_against_observed_draws_every_gene_and_interval(table, ax):
    assert predicted_against_observed(table, ax, title="MYC") is ax
    np.testing.assert_allclose(points(ax), table[["observed", "effect"]])
    segments = np.array(ax.collections[0].get_segments())
    np.testing.assert_allclose(segments[:, :, 0], np.tile(table["observed"].to_numpy()[:, None], 2))
    np.testing.assert_allclose(segments[:, :, 1], table[["ci_low", "ci_high"]])
    assert ax.get_title() == "MYC"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("observed effect", "predicted effect")


def test_predicted_against_observed_is_square_around_zero(table, ax):
    predicted_against_observed(table, ax)
    assert ax.get_xlim() == ax.get_ylim() == (-ax.get_xlim()[1], ax.get_xlim()[1])
    assert ax.get_xlim()[1] > table[["observed", "effect"]].abs().max(axis=None)


@pytest.mark.parametrize("observed", [0.0, np.nan])
def test_predicted_against_observed_survives_nothing_to_see(table, ax, observed):
    predicted_against_observed(table.assign(effect=0.0, observed=observed), ax)
    assert ax.get_xlim() == (-1, 1)


def test_gene_intervals_shows_the_largest_effects_the_largest_on_top(table, ax):
    assert gene_intervals(table, ax, n_genes=4, title="MYC") is ax
    top = table.sort_values("effect", key=abs).tail(4)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(top["variable"])
    predicted = next(line for line in ax.lines if line.get_label() == "predicted")
    np.testing.assert_allclose(predicted.get_xdata(), top["effect"])
    thin, thick = (np.array(collection.get_segments())[:, :, 0] for collection in ax.collections[:2])
    np.testing.assert_allclose(thin, top[["ci_low", "ci_high"]])
    half = stats.t.ppf(0.9, 8.0) * 0.25
    np.testing.assert_allclose(thick, np.stack([top["effect"] - half, top["effect"] + half], axis=1), rtol=1e-2)
    crosses = next(line for line in ax.lines if line.get_label() == "observed")
    np.testing.assert_allclose(crosses.get_xdata(), top["observed"])
    assert ax.get_title() == "MYC"


def test_observed_effects_have_bars_where_their_errors_are_known(table, ax):
    gene_intervals(table.assign(observed_se=0.1), ax, n_genes=3)
    top = table.sort_values("effect", key=abs).tail(3)["observed"].to_numpy()
    bars = np.array(ax.collections[2].get_segments())[:, :, 0]
    np.testing.assert_allclose(bars, np.stack([top - 0.2, top + 0.2], axis=1))


@pytest.mark.parametrize("drop", [True, False])
def test_gene_intervals_without_observations(table, ax, drop):
    table = table.drop(columns="observed") if drop else table.assign(observed=np.nan)
    gene_intervals(table, ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["predicted"]
    assert len(ax.get_yticklabels()) == G


def test_the_panel_says_how_well_prediction_and_observation_agree(table, ax):
    exact = table.assign(observed=table["effect"])
    predicted_against_observed(exact, ax)
    assert ax.texts[0].get_text() == "r 1.00\nerror / no effect 0.00\nin interval 100 %"


def test_the_share_in_the_interval_allows_for_the_noise_of_the_observation(table, ax):
    far = table.assign(observed=table["ci_high"] + 0.5 * (table["ci_high"] - table["effect"]))
    predicted_against_observed(far, ax)
    assert "in interval 0 %" in ax.texts[0].get_text()
    predicted_against_observed(far.assign(se=1.0, observed_se=2.0), other := Figure().subplots())
    assert "in interval 100 %" in other.texts[0].get_text()


def test_own_genes_are_left_out(table, ax):
    exact = table.assign(observed=table["effect"], target="GENE03+GENE05")
    exact.loc[[103, 105], "observed"] = 50.0
    predicted_against_observed(exact, ax)
    assert "r 1.00" in ax.texts[0].get_text()
    assert len(points(ax)) == G - 2
    gene_intervals(exact, other := Figure().subplots())
    assert not {"GENE03", "GENE05"} & {label.get_text() for label in other.get_yticklabels()}


@pytest.mark.parametrize("plot", [gene_intervals, predicted_against_observed, ranked_effects, volcano])
def test_a_target_is_picked_and_gives_the_title(plot, table):
    both = pd.concat([table.assign(target="MYC"), table.assign(target="<b>$JUN", effect=5.0)], ignore_index=True)
    ax = plot(both, target="<b>$JUN")
    assert ax.get_title().startswith("<b>$JUN")
    drawn = np.concatenate([np.asarray(c.get_offsets()) for c in ax.collections if len(c.get_offsets())] or [np.zeros((0, 2))])
    assert (drawn == 5.0).any() or plot is gene_intervals
    with pytest.raises(ValueError, match="2 targets"):
        plot(both)
    with pytest.raises(KeyError, match="SPI1"):
        plot(both, target="SPI1")


def test_volcano_colours_what_is_significant(table, ax):
    assert volcano(table, ax, title="MYC") is ax
    called = (table["adj_p_value"] < 0.05).to_numpy()
    expected = np.column_stack([table["effect"], -np.log10(table["p_value"])])
    assert 1 < called.sum() < G
    np.testing.assert_allclose(points(ax, 0), expected[~called])
    np.testing.assert_allclose(points(ax, 1), expected[called])
    assert ax.get_title() == f"MYC\n{called.sum()} genes at 5% FDR"


def test_volcano_names_the_strongest_significant_genes(table, ax):
    volcano(table, ax, n_labels=2)
    assert {text.get_text() for text in ax.texts} == set(table.nsmallest(2, "p_value")["variable"])
    for text in ax.texts:
        row = table[table["variable"] == text.get_text()].iloc[0]
        away = np.subtract(text.get_position(), (row["effect"], -np.log10(row["p_value"])))
        assert (np.abs(away) < 0.2 * np.ptp([ax.get_xlim(), ax.get_ylim()], axis=1)).all()  # beside its dot


def test_volcano_never_names_what_is_not_significant(table, ax):
    called = table["adj_p_value"] < 0.05
    volcano(table, ax, n_labels=G)
    assert {text.get_text() for text in ax.texts} == set(table.loc[called, "variable"])


@pytest.mark.parametrize("adjusted", [0.9, np.nan])
def test_volcano_of_nothing(table, ax, adjusted):
    volcano(table.assign(adj_p_value=adjusted), ax)
    assert len(ax.texts) == 0
    assert ax.get_title() == "0 genes at 5% FDR"
    assert len(points(ax, 0)) == G


def test_volcano_draws_p_values_of_zero(table, ax):
    volcano(table.assign(p_value=0.0, adj_p_value=0.0), ax, level=0.1)
    np.testing.assert_allclose(points(ax, 1)[:, 1], 300)
    assert ax.get_title() == f"{G} genes at 10% FDR"


@pytest.mark.parametrize(("level", "text"), [(0.001, "0.1%"), (0.025, "2.5%")])
def test_volcano_states_small_levels(table, ax, level, text):
    volcano(table, ax, level=level)
    assert ax.get_title().endswith(f"genes at {text} FDR")
