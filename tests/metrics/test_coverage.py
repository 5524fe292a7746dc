import numpy as np
import pytest
from scipy import stats

from dbdiffusion.metrics import coverage, interval_score, two_sided_pit

N, P, G = 20_000, 4, 11


@pytest.mark.parametrize(("df", "noise"), [(3.0, 0.0), (3.0, 0.25), (5.0, 1.0), (5.0, 9.0), (30.0, 0.5), (np.inf, 0.5)])
def test_pit_of_a_calibrated_prediction_is_uniform(df, noise):
    rng = np.random.default_rng(0)
    se = np.exp(0.5 * rng.standard_normal(N))
    t = rng.standard_t(df, N) if np.isfinite(df) else rng.standard_normal(N)
    error = se * t + np.sqrt(noise) * rng.standard_normal(N)
    assert stats.kstest(two_sided_pit(error, se, df, noise), "uniform").statistic < 0.015


def test_pit_without_noise_is_the_t_distribution():
    rng = np.random.default_rng(0)
    error, se, df = rng.standard_normal((P, G)), rng.uniform(0.2, 2, (P, G)), np.array([1.0, 3.0, 30.0, np.inf])[:, None]
    np.testing.assert_allclose(two_sided_pit(error, se, df), 1 - 2 * stats.t.sf(np.abs(error) / se, df))
    np.testing.assert_allclose(two_sided_pit(-error, se, df), two_sided_pit(error, se, df))


def test_pit_of_normals_adds_variances():
    error, se = np.linspace(-3, 3, G), np.linspace(0.5, 2, G)
    expected = 1 - 2 * stats.norm.sf(np.abs(error) / np.sqrt(se**2 + 0.7))
    np.testing.assert_allclose(two_sided_pit(error, se, np.inf, 0.7), expected, atol=1e-4)


def test_little_noise_is_nearly_none():
    error = np.linspace(0, 5, 50)
    np.testing.assert_allclose(two_sided_pit(error, 1.0, 4.0, 1e-9), two_sided_pit(error, 1.0, 4.0), atol=0.02)


def test_pit_agrees_with_the_interval():
    rng = np.random.default_rng(0)
    error = rng.standard_t(4, 500)
    for level in (0.5, 0.9, 0.95):
        inside = np.abs(error) <= stats.t.ppf(0.5 + level / 2, 4)
        assert np.array_equal(two_sided_pit(error, 1.0, 4) <= level, inside)


def test_pit_tells_over_and_under_confidence():
    error = np.random.default_rng(0).standard_normal(N)
    assert two_sided_pit(error, 0.5, np.inf).mean() > 0.6
    assert two_sided_pit(error, 2.0, np.inf).mean() < 0.4


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_no_standard_error_no_pit(noise):
    answer = two_sided_pit(np.array([1.0, 1.0, 0.0]), np.array([np.nan, 1.0, np.nan]), 5.0, noise)
    assert np.isnan(answer).tolist() == [True, False, True]


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("noise_elsewhere", [0.0, 0.5])
def test_a_certain_prediction_is_right_or_wrong(noise_elsewhere):
    error, se = np.array([0.0, 0.3, 0.3]), np.array([0.0, 0.0, 1.0])
    answer = two_sided_pit(error, se, 5.0, np.array([0.0, 0.0, noise_elsewhere]))
    assert answer[:2].tolist() == [0.0, 1.0]


def test_coverage_and_its_clustered_standard_error():
    pit = np.random.default_rng(0).random((P, G)) * np.linspace(0.5, 1, P)[:, None]
    for level, (share, error) in coverage(pit, levels=(0.3, 0.8)).items():
        per_row = (pit <= level).mean(axis=1)
        np.testing.assert_allclose(share, per_row.mean())
        np.testing.assert_allclose(error, stats.sem(per_row))


def test_clustered_error_is_the_spread_over_repetitions():
    rng = np.random.default_rng(0)
    shares, errors = [], []
    for _ in range(300):
        together = rng.standard_normal((25, 1)) + 0.5 * rng.standard_normal((25, G))
        share, error = coverage(two_sided_pit(together, np.sqrt(1.25), np.inf), levels=(0.8,))[0.8]
        shares.append(share)
        errors.append(error)
    np.testing.assert_allclose(np.mean(shares), 0.8, atol=0.02)
    np.testing.assert_allclose(np.mean(errors), np.std(shares), rtol=0.15)


def test_unknown_genes_do_not_count():
    pit = np.random.default_rng(0).random((P, G))
    holed = pit.copy()
    holed[1, :5] = np.nan
    expected = np.mean([(row <= 0.5).mean() for row in (pit[0], pit[1, 5:], pit[2], pit[3])])
    np.testing.assert_allclose(coverage(holed, levels=(0.5,))[0.5][0], expected)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_perturbation_without_intervals_does_not_count():
    pit = np.random.default_rng(0).random((P, G))
    holed = np.vstack([pit[:2], np.full((1, G), np.nan), pit[2:]])
    np.testing.assert_allclose(coverage(holed, levels=(0.5,))[0.5], coverage(pit, levels=(0.5,))[0.5])


def test_one_perturbation_has_no_standard_error():
    share, error = coverage(np.linspace(0, 1, G)[None], levels=(0.45,))[0.45]
    np.testing.assert_allclose(share, 5 / G)
    assert np.isnan(error)


def test_interval_score_is_its_formula():
    rng = np.random.default_rng(0)
    centre, truth, half = rng.standard_normal((P, G)), 2 * rng.standard_normal((P, G)), rng.uniform(0.1, 2, (P, G))
    low, high = centre - half, centre + half
    penalty = np.where(truth < low, low - truth, np.where(truth > high, truth - high, 0))
    np.testing.assert_allclose(interval_score(centre - truth, half, 0.9), high - low + 2 / 0.1 * penalty)


def test_the_calibrated_interval_has_the_best_score():
    error = np.random.default_rng(0).standard_normal(N)
    widths = np.linspace(0.5, 4, 71)
    scores = [interval_score(error, width, 0.9).mean() for width in widths]
    np.testing.assert_allclose(widths[np.argmin(scores)], stats.norm.ppf(0.95), atol=0.1)
