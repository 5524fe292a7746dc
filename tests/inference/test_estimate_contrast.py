import numpy as np
import pytest
from scipy import stats

from dbdiffusion.inference import welch_contrast

G, SIZES, N_CONTROL = 11, (7, 15, 2), 40


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    groups = [rng.standard_normal((n, G)) * (1 + i) + 0.5 * i for i, n in enumerate(SIZES)]
    return groups, rng.standard_normal((N_CONTROL, G)) * 0.7


def contrast(groups, control):
    sizes = np.array([len(group) for group in groups])
    with np.errstate(all="ignore"):
        variance = np.array([((g - g.mean(axis=0)) ** 2).sum(axis=0) / max(len(g) - 1, 1) / len(g) for g in groups])
    return welch_contrast(
        np.array([group.mean(axis=0) - control.mean(axis=0) for group in groups]),
        variance,
        np.tile(control.var(axis=0, ddof=1) / len(control), (len(groups), 1)),
        sizes - 1,
        len(control) - 1,
    )


def test_welch_is_scipys(cells):
    groups, control = cells
    estimate = contrast(groups, control)
    low, high = estimate.interval(0.9)
    for i, group in enumerate(groups):
        expected = stats.ttest_ind(group, control, equal_var=False)
        interval = expected.confidence_interval(0.9)
        np.testing.assert_allclose(estimate.statistic[i], expected.statistic)
        np.testing.assert_allclose(estimate.df[i], expected.df)
        np.testing.assert_allclose(estimate.p_value()[i], expected.pvalue)
        np.testing.assert_allclose(low[i], interval.low)
        np.testing.assert_allclose(high[i], interval.high)


def test_a_single_cell_has_an_effect_but_no_interval(cells):
    groups, control = cells
    estimate = contrast([groups[0][:1], groups[1]], control)
    assert np.isfinite(estimate.effect).all()
    assert np.isnan(estimate.se[0]).all()
    assert np.isnan(estimate.p_value()[0]).all()
    assert np.isfinite(estimate.p_value()[1]).all()


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_gene_without_variance_is_certain():
    effect = np.array([[0.0, 0.3]])
    estimate = welch_contrast(effect, np.zeros((1, 2)), np.zeros((1, 2)), np.array([4]), 10)
    assert estimate.p_value().tolist() == [[1.0, 0.0]]
    assert np.array_equal(np.squeeze(estimate.interval()), np.vstack([effect, effect]))


def test_unknown_variance_gives_no_interval():
    estimate = welch_contrast(np.ones((1, 2)), np.array([[np.nan, 1.0]]), np.ones((1, 2)), np.array([4]), 10)
    assert np.isnan(estimate.se[0]).tolist() == [True, False]


def test_control_only_noise_has_controls_degrees_of_freedom():
    estimate = welch_contrast(np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1)), np.array([4]), 10)
    np.testing.assert_allclose(estimate.df, 10)


def test_under_the_null_p_values_are_uniform():
    rng = np.random.default_rng(0)
    control, group = rng.standard_normal((12, 4000)), 3 * rng.standard_normal((6, 4000))
    p = contrast([group], control).p_value()[0]
    assert stats.kstest(p, "uniform").statistic < 0.03
