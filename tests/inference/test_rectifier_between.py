import numpy as np
import pytest

from dbdiffusion.inference import References
from dbdiffusion.inference._rectifier import (
    KnownNoise,
    VariancePrior,
    between_variance,
    fit_variance_prior,
    left_out_between,
    positive_mean,
)

K, G = 20, 500


def estimated(rng, between, noise, control=0.0, k=K, n_screens=20):
    """Mean estimate by gene over screens of errors with this variance between perturbations (G,) and this known noise."""
    answers = []
    for _ in range(n_screens):
        shared = np.sqrt(control) * rng.standard_normal(G)
        errors = np.sqrt(between + noise) * rng.standard_normal((k, G)) + shared
        known = KnownNoise(np.full(G, noise + control), G * control, 0.01 * G * (noise + control))
        mean_square = (errors**2).mean(axis=0)
        answers.append(between_variance(mean_square, known, k - 1, fit_variance_prior(mean_square, k - 1)))
    return np.stack(answers)


def test_without_noise_it_is_the_moderated_mean_square():
    mean_square, prior = np.random.default_rng(0).chisquare(5, G), VariancePrior(4.0, 7.0)
    known = KnownNoise(np.zeros(G), 0.0, 0.0)
    np.testing.assert_allclose(between_variance(mean_square, known, 19, prior), prior.moderate(mean_square, 19))


def test_it_is_right_on_average_where_signal_prevails():
    rng = np.random.default_rng(0)
    between = rng.gamma(3.0, 1.0, G)
    answers = estimated(rng, between, 0.3)
    assert answers.mean() == pytest.approx(between.mean(), rel=0.1)
    assert np.corrcoef(answers.mean(axis=0), between)[0, 1] > 0.95


@pytest.mark.parametrize(("control", "least"), [(0.0, 0.05), (1.0, 0.01)])
def test_where_noise_prevails_no_gene_is_said_to_be_certain(control, least):
    answers = estimated(np.random.default_rng(0), np.full(G, 0.1), 1.0, control)
    assert (answers > least).mean() > 0.98
    assert answers.mean() == pytest.approx(0.1, rel=0.2)


def test_nothing_is_never_proven():
    known = KnownNoise(np.full(G, 1.0), 0.0, 0.02 * G)
    answer = between_variance(np.full(G, 0.9), known, K - 1, VariancePrior(0.9, 10.0))
    assert (answer > 0).all()


def test_left_out_variances_are_those_of_the_others():
    errors = np.random.default_rng(0).standard_normal((K, G))
    known = KnownNoise(np.full(G, 0.2), 0.0, 1.0)
    prior = fit_variance_prior((errors**2).mean(axis=0), K - 1)
    alone = between_variance((errors[1:] ** 2).mean(axis=0), known, K - 2, prior)
    np.testing.assert_allclose(left_out_between(errors, known, prior)[0], alone)


def test_known_noise_counts_the_control_as_far_as_the_prediction_does_not_carry_it():
    control = np.linspace(0.1, 1.0, G)
    references = References(np.zeros((K, G)), np.full((K, G), 0.5), control, {}, control_norm_cv=0.3)
    none, half = KnownNoise.of(references, 0.0), KnownNoise.of(references, 0.5)
    np.testing.assert_allclose(none.variance, 0.5 + control)
    np.testing.assert_allclose(half.variance, 0.5 + control / 4)
    assert half.common == pytest.approx(none.common / 4)
    assert none.doubt == pytest.approx(0.3 * np.hypot(0.5 * G / np.sqrt(K), control.sum()))


@pytest.mark.parametrize("mean", [-1.5, -0.5, 0.0, 2.0])
def test_positive_mean_is_that_of_draws(mean):
    draws = mean + 0.7 * np.random.default_rng(0).standard_normal(2_000_000)
    assert positive_mean(np.array([mean]), 0.7)[0] == pytest.approx(draws[draws > 0].mean(), rel=0.05)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_positive_mean_of_what_is_surely_negative_is_nothing():
    np.testing.assert_allclose(positive_mean(np.array([-1.0, 2.0]), 0.0), [0.0, 2.0])
    np.testing.assert_allclose(positive_mean(np.array([-100.0]), 1.0), 0.0, atol=0.1)
