import numpy as np
import pytest
from scipy import stats

from dbdiffusion.inference import ErrorLaw, Prior, adjust_p_values, shrunk_contrast, shrunk_null, welch_contrast

N, G = 5, 1500
DF, CONTROL_DF = np.full(N, 40.0), 500.0


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def draw(rng, law, noise=0.3, tau=0.4, control=0.0):
    predicted = 0.5 * rng.standard_normal((N, G))
    scale = np.sqrt(law.variance(np.full((N, G), tau**2), predicted))
    truth = predicted + scale * rng.standard_t(law.df, (N, G))
    effect = truth + noise * rng.standard_normal((N, G)) + np.sqrt(control) * rng.standard_normal((N, G))
    errors = (np.full((N, G), noise**2), np.full((N, G), control), DF, CONTROL_DF)
    return truth, effect, errors, (predicted, np.full((N, G), tau**2), law)


def test_posterior_covers_and_beats_observation_and_prediction(rng):
    law = ErrorLaw(4.0, 1.0, 0.3)
    truth, effect, errors, prior = draw(rng, law)
    shrunk = shrunk_contrast(effect, *errors, Prior(*prior))
    error = ((shrunk.effect - truth) ** 2).mean()
    assert error < 0.8 * ((effect - truth) ** 2).mean()
    assert error < 0.8 * ((prior[0] - truth) ** 2).mean()
    for level in (0.5, 0.8, 0.95):
        low, high = shrunk.interval(level)
        assert abs(((low < truth) & (truth < high)).mean() - level) < 0.03


def test_with_a_normal_prior_it_is_the_weighted_mean(rng):
    law = ErrorLaw(1e5, 1.0, 0.0)
    _, effect, errors, prior = draw(rng, law)
    share = 0.16 / (0.16 + 0.09)
    shrunk = shrunk_contrast(effect, *errors, Prior(*prior))
    np.testing.assert_allclose(shrunk.effect, prior[0] + share * (effect - prior[0]), atol=0.01)
    np.testing.assert_allclose(shrunk.se, np.sqrt(share * 0.09), rtol=0.02)


def test_precise_observations_win_and_vague_ones_lose(rng):
    law = ErrorLaw(5.0, 1.0, 0.0)
    _, effect, (variance, control, df, control_df), prior = draw(rng, law)
    precise = shrunk_contrast(effect, 1e-12 * variance, control, df, control_df, Prior(*prior))
    np.testing.assert_allclose(precise.effect, effect, atol=1e-6)
    vague = shrunk_contrast(effect, 1e9 * variance, control, df, control_df, Prior(*prior))
    np.testing.assert_allclose(vague.effect, prior[0], atol=1e-3)


def test_an_observation_far_from_the_prediction_is_believed(rng):
    law = ErrorLaw(3.0, 1.0, 0.0)
    one = np.ones((1, 1))
    shrunk = shrunk_contrast(50 * one, one, 0 * one, np.array([40.0]), 500.0, Prior(0 * one, 0.01 * one, law))
    assert shrunk.effect[0, 0] > 45


def test_control_noise_is_carried_once(rng):
    law = ErrorLaw(5.0, 1.0, 0.0)
    _, effect, (variance, control, df, control_df), prior = draw(rng, law)
    without = shrunk_contrast(effect, variance, control, df, control_df, Prior(*prior))
    added = shrunk_contrast(effect, variance, control + 0.02, df, control_df, Prior(*prior))
    np.testing.assert_allclose(added.se**2 - without.se**2, 0.02)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 0.85, 1.0])
def test_one_error_of_the_control_in_prediction_and_observation(weight, rng):
    tau, noise, control = 0.3, 0.15, 0.3
    e_0 = control * rng.standard_normal((1, 40 * G))
    expected = rng.standard_normal(e_0.shape)
    truth = expected + tau * rng.standard_normal(e_0.shape)
    effect = truth + noise * rng.standard_normal(e_0.shape) + e_0
    one = np.ones_like(e_0)
    prior = Prior(expected + weight * e_0, tau**2 * one, ErrorLaw(1e5, 1.0, 0.0), weight)
    errors = (noise**2 * one, control**2 * one, np.array([1e6]), 1e6)
    shrunk = shrunk_contrast(effect, *errors, prior)
    for level in (0.5, 0.95):
        low, high = shrunk.interval(level)
        assert abs(((low < truth) & (truth < high)).mean() - level) < 0.01
    np.testing.assert_allclose(((shrunk.effect - truth) ** 2).mean(), (shrunk.se**2).mean(), rtol=0.03)
    # no other mix of prediction and observation is better
    apart, wanted = effect - prior.predicted, truth - prior.predicted
    gain = (apart * wanted).sum() / (apart**2).sum()
    np.testing.assert_allclose(shrunk.effect, prior.predicted + gain * apart, atol=0.02)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_with_many_cells_the_error_is_that_of_the_observed_contrast(weight, rng):
    law = ErrorLaw(5.0, 1.0, 0.0)
    _, effect, (variance, control, df, control_df), (predicted, between, _) = draw(rng, law, control=0.01)
    errors = (1e-12 * variance, control, df, control_df)
    shrunk = shrunk_contrast(effect, *errors, Prior(predicted, 1e8 * between, law, weight))
    np.testing.assert_allclose(shrunk.effect, effect, atol=1e-6)
    np.testing.assert_allclose(shrunk.se, welch_contrast(effect, *errors).se, rtol=1e-4)


@pytest.mark.parametrize("wrong", [False, True])
def test_false_discovery_rate_holds_even_if_predictions_are_wrong(wrong):
    rng = np.random.default_rng(1)
    law, shares, found = ErrorLaw(4.0, 1.0, 0.0), [], []
    for _ in range(8):
        truth = np.where(rng.random((N, G)) < 0.1, 1.5 * np.sign(rng.standard_normal((N, G))), 0.0)
        predicted = rng.standard_normal((N, G)) if wrong else truth + 0.3 * rng.standard_normal((N, G))
        effect = truth + 0.5 * rng.standard_normal((N, G))
        errors = (np.full((N, G), 0.25), np.zeros((N, G)), np.full(N, 1e6), 1e6)
        prior = (predicted, np.full((N, G), 0.16), law)
        p_value = shrunk_contrast(effect, *errors, Prior(*prior)).p_value()
        called = adjust_p_values(p_value, shrunk_null(*errors, Prior(*prior))) < 0.1
        plain = adjust_p_values(welch_contrast(effect, *errors).p_value()) < 0.1
        shares.append((called & (truth == 0)).sum() / max(called.sum(), 1))
        found.append((called & (truth != 0)).sum() / max((plain & (truth != 0)).sum(), 1))
    assert np.mean(shares) < 0.115
    if not wrong:
        assert np.mean(found) > 1.3


def test_null_share_counts_what_the_null_would_give(rng):
    law = ErrorLaw(6.0, 1.0, 0.2)
    _, _, errors, prior = draw(rng, law)
    nulls = shrunk_null(*errors, Prior(*prior))
    se, df = np.sqrt(errors[0] + errors[1]), welch_contrast(0 * errors[0], *errors).df
    counts = []
    for seed in range(30):
        nothing = stats.t(df).rvs(random_state=seed) * se
        counts.append((shrunk_contrast(nothing, *errors, Prior(*prior)).p_value() <= 0.02).sum(axis=1))
    expected = np.array([null.below(np.array([0.02]))[0] for null in nulls])
    np.testing.assert_allclose(np.mean(counts, axis=0), expected, rtol=0.15)


def test_a_single_cell_stays_without_an_error():
    one = np.ones((1, 3))
    shrunk = shrunk_contrast(one, np.nan * one, 0.1 * one, np.array([0.0]), 10.0, Prior(0 * one, one, ErrorLaw(5.0, 1.0, 0.0)))
    assert np.isnan(shrunk.se).all()
    assert np.array_equal(shrunk.effect, one)


def test_an_own_scale_is_a_law_of_that_scale(rng):
    effect, predicted = rng.standard_normal((2, 3, 11))
    variance, between = rng.uniform(0.1, 1, (2, 3, 11))
    scales = np.array([0.5, 1.0, 3.0])
    arguments = (variance, 0.1 * variance, np.array([9, 12, 30]), 50)
    together = shrunk_contrast(effect, *arguments, Prior(predicted, between, ErrorLaw(5.0, 0.8, 0.4), 0.6, scales))
    for i, scale in enumerate(scales):
        alone = shrunk_contrast(effect, *arguments, Prior(predicted, between, ErrorLaw(5.0, 0.8 * scale, 0.4), 0.6))
        np.testing.assert_allclose(together.effect[i], alone.effect[i])
        np.testing.assert_allclose(together.se[i], alone.se[i])
