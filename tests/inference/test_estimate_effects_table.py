import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dbdiffusion._keys import EFFECT_COLUMNS
from dbdiffusion.inference import Estimate, effects_table

T, G = 4, 11
TARGETS = [f"TARGET{i}" for i in range(T)]
GENES = np.array([f"GENE{i:02d}" for i in range(G)])


@pytest.fixture
def estimate():
    rng = np.random.default_rng(0)
    return Estimate(rng.standard_normal((T, G)), rng.uniform(0.2, 1, (T, G)), rng.uniform(2, 30, (T, G)))


@pytest.fixture
def mean_control():
    return np.random.default_rng(1).uniform(0, 3, (T, G))


def make(estimate, mean_control, **options):
    columns = {
        "lam": np.float64(0.5),
        "tau": np.arange(float(G)),
        "n_reference": np.array(7),
        "n_expressing": np.array(np.nan),
        "status": np.array(["unseen", "measured", "unseen", "unseen"])[:, None],
        "contrast": np.array("x"),
    }
    return effects_table(TARGETS, GENES, estimate, mean_control, columns=columns, **{"confidence": 0.9} | options)


def test_columns_are_those_of_the_plan(estimate, mean_control):
    table = make(estimate, mean_control)
    assert set(table) == set(EFFECT_COLUMNS)
    assert tuple(table.columns[:11]) == EFFECT_COLUMNS[:11]


def test_what_is_not_tested_has_no_p_value_and_does_not_count(estimate, mean_control):
    tested = np.random.default_rng(2).random((T, G)) < 0.6
    table, whole = make(estimate, mean_control, tested=tested), make(estimate, mean_control)
    assert np.array_equal(table["p_value"].notna(), tested.ravel())
    assert np.array_equal(table["p_value"].dropna(), whole["p_value"][tested.ravel()])
    for row in range(T):
        own = table[row * G : (row + 1) * G][tested[row]]
        np.testing.assert_allclose(own["adj_p_value"], stats.false_discovery_control(own["p_value"]))
    rest = [column for column in table if column not in ("p_value", "adj_p_value", "lfsr")]
    pd.testing.assert_frame_equal(table[rest], whole[rest])


def test_sign_rates_that_are_told_are_those_of_their_target_alone(estimate, mean_control):
    plain = make(estimate, mean_control)
    table = make(estimate, mean_control, lfsr=[None, np.full(G, 0.3), *[None] * (T - 2)])
    np.testing.assert_allclose(plain["lfsr"], plain["p_value"] / 2)
    changed = table["target"] == TARGETS[1]
    assert (table.loc[changed, "lfsr"] == 0.3).all()
    pd.testing.assert_frame_equal(table[~changed], plain[~changed])
    pd.testing.assert_frame_equal(table.drop(columns="lfsr"), plain.drop(columns="lfsr"))


def test_a_row_is_one_target_and_gene(estimate, mean_control):
    table = make(estimate, mean_control)
    assert len(table) == T * G
    low, high = estimate.interval(0.9)
    indexed = table.set_index(["target", "variable"])
    assert indexed.index.is_unique
    for i, j in ((0, 0), (3, 4), (1, 10)):
        row = indexed.loc[(TARGETS[i], GENES[j])]
        assert row["effect"] == estimate.effect[i, j]
        assert row["se"] == estimate.se[i, j]
        assert row["df"] == estimate.df[i, j]
        assert (row["ci_low"], row["ci_high"]) == (low[i, j], high[i, j])
        assert row["p_value"] == estimate.p_value()[i, j]
        assert row["tau"] == j
        assert row["status"] == ("measured" if i == 1 else "unseen")


def test_columns_agree_with_each_other(estimate, mean_control):
    table = make(estimate, mean_control)
    np.testing.assert_allclose(table["log_fc"], np.log2(np.exp(table["effect"])))
    np.testing.assert_allclose(table["mean_target"] - table["mean_control"], table["effect"])
    np.testing.assert_allclose(table["mean_control"], mean_control.ravel())
    np.testing.assert_allclose(table["statistic"], table["effect"] / table["se"])
    np.testing.assert_allclose(table["p_value"], 2 * stats.t.sf(table["statistic"].abs(), table["df"]))
    np.testing.assert_allclose((table["ci_high"] + table["ci_low"]) / 2, table["effect"])


def test_false_discoveries_are_counted_inside_a_target_or_over_all(estimate, mean_control):
    inside, over_all = (make(estimate, mean_control, fdr=fdr) for fdr in ("target", "all"))
    expected = inside.groupby("target")["p_value"].transform(stats.false_discovery_control)
    np.testing.assert_allclose(inside["adj_p_value"], expected)
    np.testing.assert_allclose(over_all["adj_p_value"], stats.false_discovery_control(over_all["p_value"]))
    assert not np.allclose(inside["adj_p_value"], over_all["adj_p_value"])


def test_degrees_of_freedom_may_be_shared(estimate, mean_control):
    shared = Estimate(estimate.effect, estimate.se, np.arange(3.0, G + 3))
    table = make(shared, mean_control)
    assert table.groupby("variable")["df"].nunique().eq(1).all()
    np.testing.assert_allclose(table["p_value"], shared.p_value().ravel())


def test_threshold_enters_p_values_and_nothing_else(estimate, mean_control):
    plain, thresholded = make(estimate, mean_control), make(estimate, mean_control, threshold=0.5)
    np.testing.assert_allclose(thresholded["p_value"], estimate.p_value(0.5).ravel())
    assert (thresholded["adj_p_value"] >= plain["adj_p_value"] - 1e-12).all()
    others = [column for column in EFFECT_COLUMNS if column not in ("p_value", "adj_p_value")]
    pd.testing.assert_frame_equal(plain[others], thresholded[others])


def test_no_standard_error_leaves_the_effect_alone(estimate, mean_control):
    bare = Estimate(estimate.effect, np.full((T, G), np.nan), estimate.df)
    table = make(bare, mean_control)
    assert table["effect"].notna().all()
    assert table[["ci_low", "ci_high", "statistic", "p_value", "adj_p_value"]].isna().all(axis=None)


def test_impossible_options_are_refused(estimate, mean_control):
    with pytest.raises(ValueError, match=r"fdr.*'both'"):
        make(estimate, mean_control, fdr="both")
    with pytest.raises(ValueError, match=r"confidence.*95"):
        make(estimate, mean_control, confidence=95)
    with pytest.raises(ValueError, match="threshold"):
        make(estimate, mean_control, threshold=-1.0)
