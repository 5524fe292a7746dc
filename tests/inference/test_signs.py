"""How often predicted signs are wrong: laws of the local false sign rate."""

import numpy as np
import pytest

from dbdiffusion.inference import Estimate, References, SignLaw, fit_rectifier, fit_sign_law, signs_of
from dbdiffusion.screen import ControlHalves

K, G = 41, 230
ALL = np.ones(G, dtype=bool)


def law_of(truth, predicted, noise=0.0, seed=0):
    """The sign law of references whose effects are seen with some noise, and what it says of their left-out predictions."""
    seen = truth + np.sqrt(noise) * np.random.default_rng(seed).standard_normal(truth.shape)
    references = References(seen, np.full(truth.shape, noise), np.zeros(truth.shape[1]), {"one": predicted})
    rectifier = fit_rectifier(references)
    signs = signs_of(rectifier, references, np.ones(truth.shape[1], dtype=bool), None)
    se = np.sqrt(rectifier.law.variance(rectifier.loo_between, rectifier.loo_predicted))
    law = fit_sign_law(signs)
    return law.lfsr(Estimate(rectifier.loo_predicted, se, np.full(se.shape, rectifier.law.df))), rectifier


def test_without_left_out_signs_it_is_half_of_the_p_value():
    estimate = Estimate(np.array([-2.0, 0.5]), np.array([1.0, 0.7]), np.array([4.0, np.inf]))
    np.testing.assert_allclose(SignLaw().lfsr(estimate), estimate.p_value() / 2)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_signs_are_wrong_as_often_as_it_says_whatever_noise_they_are_seen_with(noise):
    rng = np.random.default_rng(1)
    truth = rng.standard_normal((K, G))
    misplaced = np.arange(K)[:, None] % 8 == 0
    predicted = np.where(misplaced, rng.standard_normal((K, G)), truth + 0.5 * rng.standard_normal((K, G)))
    lfsr, rectifier = law_of(truth, predicted, noise)
    wrong = np.sign(rectifier.loo_predicted) != np.sign(truth)
    surest = lfsr < np.quantile(lfsr, 0.3)
    assert abs(lfsr.mean() - wrong.mean()) < 0.03
    assert abs(lfsr[surest].mean() - wrong[surest].mean()) < 0.03


def test_agreement_by_the_error_of_one_control_mean_is_none():
    rng = np.random.default_rng(2)
    shared = rng.standard_normal(G)
    seen = 0.3 * rng.standard_normal((K, G)) - shared
    references = References(seen, np.full((K, G), 0.09), np.ones(G), {"one": np.repeat(-shared[None], K, axis=0)})
    rectifier = fit_rectifier(references, lam=1.0, rho=0.0)
    half = rng.standard_normal((6, 1, G))
    halves = ControlHalves(shared + half, shared - half, np.ones((K, 1)))
    split = fit_sign_law(signs_of(rectifier, references, ALL, halves))
    assert split.wrong(np.array(3.0), np.array(np.inf)) > 0.3
    assert fit_sign_law(signs_of(rectifier, references, ALL, None)).wrong(np.array(3.0), np.array(np.inf)) < 0.1


def test_fewer_than_ten_references_tell_no_law():
    truth = np.random.default_rng(3).standard_normal((9, G))
    references = References(truth, np.zeros((9, G)), np.zeros(G), {"one": -truth})
    assert fit_sign_law(signs_of(fit_rectifier(references), references, ALL, None)) == SignLaw()


def test_own_genes_and_those_that_cannot_be_listed_do_not_count():
    truth = np.random.default_rng(4).standard_normal((K, G))
    own = tuple(np.array([i]) for i in range(K))
    references = References(truth, np.zeros((K, G)), np.zeros(G), {"one": truth + 0.1}, own)
    listable = np.arange(G) < 60
    signs = signs_of(fit_rectifier(references), references, listable, None)
    assert len(signs.reference) == K * 59
    assert np.array_equal(np.unique(signs.reference), np.arange(K))
