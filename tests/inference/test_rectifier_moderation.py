import numpy as np
import pytest
from scipy import stats

from dbdiffusion.inference import ErrorLaw, VariancePrior, fit_error_law, fit_variance_prior

N = 6000


def sample_variances(df_prior, scale, df, seed=0):
    rng = np.random.default_rng(seed)
    true = scale * df_prior / rng.chisquare(df_prior, N) if np.isfinite(df_prior) else np.full(N, scale)
    return true * rng.chisquare(df, N) / df, true


@pytest.mark.parametrize(("df_prior", "scale", "df"), [(4.0, 0.5, 9), (10.0, 3.0, 19), (3.0, 1e-4, 5)])
def test_prior_recovers_what_drew_the_variances(df_prior, scale, df):
    prior = fit_variance_prior(sample_variances(df_prior, scale, df)[0], df)
    np.testing.assert_allclose(prior.df, df_prior, rtol=0.2)
    np.testing.assert_allclose(prior.scale, scale, rtol=0.08)


def test_equal_variances_give_a_prior_that_decides_alone():
    variance, _ = sample_variances(np.inf, 2.0, 7)
    prior = fit_variance_prior(variance, 7)
    assert prior.df > 60
    np.testing.assert_allclose(prior.scale, 2.0, rtol=0.05)
    np.testing.assert_allclose(prior.moderate(variance, 7), 2.0, rtol=0.25)


def test_moderated_variances_are_nearer_to_the_truth():
    variance, true = sample_variances(4.0, 0.5, 5)
    moderated = fit_variance_prior(variance, 5).moderate(variance, 5)
    error = lambda v: np.mean((np.log(v) - np.log(true)) ** 2)  # noqa: E731
    assert error(moderated) < 0.85 * error(variance)


def test_moderated_t_is_a_t_with_more_degrees_of_freedom():
    rng = np.random.default_rng(3)
    variance, true = sample_variances(4.0, 0.5, 5)
    prior = fit_variance_prior(variance, 5)
    t = np.sqrt(true) * rng.standard_normal(N) / np.sqrt(prior.moderate(variance, 5))
    assert stats.kstest(t, stats.t(5 + prior.df).cdf).statistic < 0.02


def test_moderate_is_the_weighted_mean():
    variance = np.array([1.0, 4.0])
    np.testing.assert_allclose(VariancePrior(2.0, 3.0).moderate(variance, 6), (3 * 2.0 + 6 * variance) / 9)
    np.testing.assert_allclose(VariancePrior(2.0, 1e9).moderate(variance, 6), 2.0, atol=1e-6)
    assert VariancePrior(2.0, np.inf).moderate(variance, 6).tolist() == [2.0, 2.0]
    np.testing.assert_allclose(VariancePrior(2.0, 0.0).moderate(variance, 6), variance)


def test_scale_is_equivariant():
    variance, _ = sample_variances(4.0, 0.5, 9)
    one, thousand = fit_variance_prior(variance, 9), fit_variance_prior(1000 * variance, 9)
    np.testing.assert_allclose(thousand.df, one.df)
    np.testing.assert_allclose(thousand.scale, 1000 * one.scale)


def test_genes_that_do_not_vary_are_left_out():
    variance, _ = sample_variances(4.0, 0.5, 9)
    assert fit_variance_prior(np.concatenate([variance, np.zeros(500)]), 9) == fit_variance_prior(variance, 9)


@pytest.mark.parametrize(("variance", "scale"), [([0.0, 0.0], 0.0), ([3.0, 0.0], 3.0), ([], 0.0)])
def test_too_few_genes_give_a_point_prior(variance, scale):
    assert fit_variance_prior(np.array(variance), 9) == VariancePrior(scale, np.inf)


@pytest.mark.parametrize(("df", "scale", "kappa"), [(4.0, 1.5, 0.0), (20.0, 0.8, 0.0), (5.0, 1.0, 1.0), (1.4, 0.5, 0.0)])
def test_error_law_recovers_what_drew_the_errors(df, scale, kappa):
    rng = np.random.default_rng(0)
    between, predicted = rng.uniform(0.2, 2, N), 2 * rng.standard_normal(N)
    noise = rng.uniform(0.1, 0.5, N)
    true = ErrorLaw(df, scale, kappa)
    error = np.sqrt(true.variance(between, predicted)) * rng.standard_t(df, N) + np.sqrt(noise) * rng.standard_normal(N)
    law = fit_error_law(error, between, predicted, noise)
    assert abs(1 / law.df - 1 / df) < 0.06
    np.testing.assert_allclose(law.scale, scale, rtol=0.12)
    np.testing.assert_allclose(law.kappa, kappa, atol=0.2)


def test_error_law_gives_quantiles_that_cover():
    rng = np.random.default_rng(1)
    between, predicted = rng.uniform(0.2, 2, 2 * N), 2 * rng.standard_normal(2 * N)
    error = np.sqrt(ErrorLaw(4, 1.3, 0.5).variance(between, predicted)) * rng.standard_t(4, 2 * N)
    law = fit_error_law(error[:N], between[:N], predicted[:N], np.full(N, 1e-6))
    standardised = np.abs(error[N:]) / np.sqrt(law.variance(between[N:], predicted[N:]))
    for level in (0.5, 0.9, 0.95, 0.99):
        np.testing.assert_allclose((standardised < stats.t.ppf(0.5 + level / 2, law.df)).mean(), level, atol=0.025)


def test_variance_of_the_law_is_its_formula():
    between, predicted = np.array([1.0, 2.0, 0.0]), np.array([0.0, -3.0, 2.0])
    np.testing.assert_allclose(ErrorLaw(5, 2.0, 0.5).variance(between, predicted), 4 * (between + 0.25 * predicted**2))


def test_broadcast_and_shape_do_not_matter():
    rng = np.random.default_rng(0)
    error = rng.standard_t(5, (20, 50))
    whole = fit_error_law(error, np.ones((20, 50)), np.zeros((20, 50)), np.full((20, 50), 0.3))
    broadcast = fit_error_law(error, np.ones(50), np.zeros((20, 1)), np.array(0.3))
    np.testing.assert_allclose([whole.df, whole.scale, whole.kappa], [broadcast.df, broadcast.scale, broadcast.kappa])


def test_too_few_errors_say_nothing():
    assert fit_error_law(np.ones(99), np.ones(99), np.zeros(99), np.zeros(99)) == ErrorLaw(100.0, 1.0, 0.0)
    assert fit_error_law(np.zeros(500), np.zeros(500), np.zeros(500), np.zeros(500)) == ErrorLaw(100.0, 1.0, 0.0)


def test_entries_without_variance_do_not_disturb():
    rng = np.random.default_rng(0)
    error, between = rng.standard_t(5, 1000), np.ones(1000)
    holed = [np.concatenate([values, np.zeros(400)]) for values in (error, between, np.zeros(1000), 0.1 * between)]
    law, expected = fit_error_law(*holed), fit_error_law(error, between, np.zeros(1000), 0.1 * between)
    allowed = 1 / 1399 - 1 / 999  # the tails allow for the number of references
    np.testing.assert_allclose([1 / law.df, law.scale], [1 / expected.df + allowed, expected.scale], rtol=1e-6)


def test_few_references_make_tails_heavier_and_leave_the_scale():
    rng = np.random.default_rng(0)
    error, one = rng.standard_normal((12, 500)), np.ones((12, 500))
    law = fit_error_law(error, one, 0 * one, 0 * one)
    np.testing.assert_allclose(1 / law.df, 1 / 11, atol=0.02)  # a normal error of unknown scale is a t with K - 1
    np.testing.assert_allclose(law.scale, 1, atol=0.05)


def test_slope_of_the_likelihood_is_that_of_its_value():
    rng = np.random.default_rng(9)
    error, predicted = rng.standard_normal((2, 300))
    between, noise = rng.uniform(0.2, 2, (2, 300))
    at, step = np.log([3.0, 0.8, 0.4]), 1e-5

    def value(parameters):
        return ErrorLaw(*np.exp(parameters)).log_density(error, between, predicted, noise).mean()

    mean, slope = ErrorLaw(*np.exp(at)).slope(error, between, predicted, noise)
    numeric = [(value(at + step * one) - value(at - step * one)) / (2 * step) for one in np.eye(3)]
    np.testing.assert_allclose(mean, value(at))
    np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-7)
