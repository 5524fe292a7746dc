import numpy as np
import pytest
from scipy import stats

from dbdiffusion.inference import Estimate, adjust_p_values, check_confidence

G = 11


@pytest.fixture
def estimate():
    rng = np.random.default_rng(0)
    shape = (4, G)
    return Estimate(2 * rng.standard_normal(shape), rng.uniform(0.3, 2, shape), rng.choice([1.5, 3.0, 20.0, np.inf], shape))


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.99])
def test_interval_and_p_value_say_the_same(estimate, confidence):
    low, high = estimate.interval(confidence)
    excludes_zero = (low > 0) | (high < 0)
    assert np.array_equal(excludes_zero, estimate.p_value() < 1 - confidence)
    assert 0 < excludes_zero.sum() < excludes_zero.size


def test_an_end_of_the_interval_at_confidence_one_less_p_is_zero(estimate):
    p = estimate.p_value()
    for i, j in np.ndindex(p.shape):
        one = Estimate(*(values[i, j : j + 1] for values in (estimate.effect, estimate.se, estimate.df)))
        ends = np.abs(np.concatenate(one.interval(1 - p[i, j])))
        np.testing.assert_allclose(ends.min(), 0, atol=1e-7)


def test_interval_is_that_of_scipys_t(estimate):
    expected = stats.t.interval(0.9, estimate.df, loc=estimate.effect, scale=estimate.se)
    np.testing.assert_allclose(estimate.interval(0.9), expected)


def test_p_values_are_uniform_under_the_null():
    t = stats.t(4).rvs(20_000, random_state=0)
    se = np.exp(np.random.default_rng(1).standard_normal(20_000))
    p = Estimate(t * se, se, np.full(20_000, 4.0)).p_value()
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_no_error_bar_no_interval_and_no_p_value():
    estimate = Estimate(np.array([1.0, 0.0]), np.array([np.nan, np.nan]), np.array([3.0, np.inf]))
    assert np.isnan(estimate.statistic).all()
    assert np.isnan(estimate.p_value()).all()
    assert np.isnan(estimate.interval()).all()


def test_without_any_variance_only_zero_is_compatible_with_zero():
    estimate = Estimate(np.array([0.0, 0.1, -3.0]), np.zeros(3), np.full(3, 5.0))
    assert estimate.statistic.tolist() == [0.0, np.inf, -np.inf]
    assert estimate.p_value().tolist() == [1.0, 0.0, 0.0]


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_without_any_variance_the_threshold_decides():
    estimate = Estimate(np.array([0.0, 0.1, -0.5, -3.0]), np.zeros(4), np.full(4, 5.0))
    assert estimate.p_value(0.5).tolist() == [1.0, 1.0, 1.0, 0.0]


def test_threshold_is_treat_of_limma(estimate):
    magnitude, threshold = np.abs(estimate.effect), 0.7
    right, left = (magnitude - threshold) / estimate.se, (magnitude + threshold) / estimate.se
    expected = stats.t.sf(right, estimate.df) + stats.t.sf(left, estimate.df)
    np.testing.assert_allclose(estimate.p_value(threshold), np.minimum(expected, 1))


def test_threshold_tends_to_the_usual_test_and_only_raises_p(estimate):
    np.testing.assert_allclose(estimate.p_value(1e-9), estimate.p_value(), atol=1e-7)
    values = np.stack([estimate.p_value(threshold) for threshold in (0.0, 0.2, 0.5, 1.0, 3.0)])
    assert (np.diff(values, axis=0) >= -1e-12).all()


@pytest.mark.parametrize("truth", [0.0, 0.5])
def test_threshold_holds_its_level_inside_the_null(truth):
    observed = truth + 0.2 * np.random.default_rng(0).standard_normal(20_000)
    p = Estimate(observed, np.full(20_000, 0.2), np.full(20_000, np.inf)).p_value(0.5)
    assert (p < 0.05).mean() < 0.055


def test_sign_does_not_matter(estimate):
    mirrored = Estimate(-estimate.effect, estimate.se, estimate.df)
    for threshold in (0.0, 0.7):
        np.testing.assert_allclose(mirrored.p_value(threshold), estimate.p_value(threshold))


def test_subset_broadcasts_degrees_of_freedom(estimate):
    shared = Estimate(estimate.effect, estimate.se, np.arange(1.0, G + 1))
    some = shared.subset(np.array([2, 0]))
    np.testing.assert_allclose(some.p_value(), shared.p_value()[[2, 0]])


def test_a_negative_threshold_is_refused(estimate):
    with pytest.raises(ValueError, match=r"threshold.*-0\.1"):
        estimate.p_value(-0.1)


@pytest.mark.parametrize("confidence", [0, 1, 1.5, -0.2, 95, float("nan")])
def test_impossible_confidence_is_refused(estimate, confidence):
    with pytest.raises(ValueError, match="confidence"):
        check_confidence(confidence)
    with pytest.raises(ValueError, match="confidence"):
        estimate.interval(confidence)


def test_adjusted_p_values_are_scipys():
    p = np.random.default_rng(0).random((4, 3, G)) ** 3
    np.testing.assert_allclose(adjust_p_values(p), stats.false_discovery_control(p, axis=-1))


def test_unknown_p_values_do_not_count():
    p = np.random.default_rng(0).random((4, G)) ** 3
    holed = p.copy()
    holed[:, [2, 5, 9]] = np.nan
    holed[3] = np.nan
    kept = [g for g in range(G) if g not in (2, 5, 9)]
    answer = adjust_p_values(holed)
    assert np.isnan(answer[:, [2, 5, 9]]).all()
    assert np.isnan(answer[3]).all()
    np.testing.assert_allclose(answer[:3, kept], stats.false_discovery_control(p[:3, kept], axis=-1))


def test_false_discoveries_are_controlled():
    rng = np.random.default_rng(0)
    is_null = np.arange(400) < 320
    statistic = rng.standard_normal((200, 400)) + np.where(is_null, 0, 3.5)
    called = adjust_p_values(2 * stats.norm.sf(np.abs(statistic))) < 0.1
    share = (called & is_null).sum(axis=1) / np.maximum(called.sum(axis=1), 1)
    assert 0.06 < share.mean() < 0.1


def test_many_quantiles_are_those_of_few():
    rng = np.random.default_rng(0)
    df = np.concatenate([rng.uniform(1.0, 30.0, 9_990), [1e3, 1e5, 1e7, np.inf] * 2, [0.6, np.nan]])
    estimate = Estimate(np.zeros(len(df)), np.ones(len(df)), df)
    few = np.concatenate(
        [Estimate(np.zeros(1000), np.ones(1000), df[k : k + 1000]).interval(0.95)[1] for k in range(0, 10_000, 1000)]
    )
    np.testing.assert_allclose(estimate.interval(0.95)[1], few, rtol=2e-5)
