"""How often predicted signs are wrong: laws of the local false sign rate."""

import numpy as np
import pytest

from dbdiffusion.inference import References, SignLaw, fit_rectifier, fit_sign_law, signs_of

K, G = 41, 230
ALL = np.ones(G, dtype=bool)


@pytest.mark.parametrize(("noise", "off"), [(0.01, 0.03), (1.0, 0.05)])
def test_signs_are_wrong_as_often_as_it_says_whatever_noise_they_are_seen_with(noise, off):
    """Strengths differ, and an eighth of the perturbations is misplaced: in noise these look weak rather than misplaced."""
    rng = np.random.default_rng(1)
    strength = np.exp(0.5 * rng.standard_normal((K, 1)))
    misplaced = np.arange(K)[:, None] % 8 == 0
    predicted = 1.5 * rng.standard_normal((K, G))
    truth = np.where(misplaced, 0, strength * predicted) + 0.5 * rng.standard_normal((K, G))
    seen = truth + np.sqrt(noise) * rng.standard_normal((K, G))
    references = References(seen, np.full((K, G), noise), np.zeros(G), {"one": predicted})
    rectifier = fit_rectifier(references)
    law = fit_sign_law(signs_of(rectifier, references, ALL))
    lfsr = law.wrong(rectifier.loo_predicted, rectifier.loo_between, np.zeros(G))
    wrong = np.sign(rectifier.loo_predicted) != np.sign(truth)
    surest = lfsr < np.quantile(lfsr, 0.3)
    assert abs(lfsr.mean() - wrong.mean()) < off
    assert abs(lfsr[surest].mean() - wrong[surest].mean()) < off


def test_what_all_have_of_the_error_of_one_control_mean_is_not_believed():
    """No effect is there: prediction and observation agree by the control's error alone, or by an effect of that size."""
    rng = np.random.default_rng(2)
    shared = rng.standard_normal(G)
    seen = 0.3 * rng.standard_normal((K, G)) + shared
    lfsr = []
    for control_variance in (np.ones(G), np.full(G, 1e-6)):
        predicted = {"one": np.repeat(shared[None], K, axis=0)}
        references = References(seen, np.full((K, G), 0.09), control_variance, predicted).corrected()
        rectifier = fit_rectifier(references, lam=1.0, rho=0.0)
        law = fit_sign_law(signs_of(rectifier, references, ALL))
        effect = rectifier.estimate(references.of_targets({"one": shared[None]})).effect
        of_each = law.wrong(effect, rectifier.tau**2, rectifier.control_variance)[0]
        lfsr.append(of_each[np.abs(shared) > 1].mean())
    assert lfsr[0] > 0.2
    assert lfsr[1] < 0.1


def test_larger_predictions_are_surer_and_noise_makes_all_less_sure():
    law, size = SignLaw(0.1, 0.5, 0.7, 5.0), np.linspace(0, 4, 9)
    wrong = law.wrong(size, np.ones(9), np.zeros(9))
    assert wrong[0] == pytest.approx(0.5)
    assert (np.diff(wrong) < 0).all()
    assert (law.wrong(size[1:], np.ones(8), np.ones(8)) > wrong[1:]).all()
    np.testing.assert_allclose(law.wrong(-size, np.ones(9), np.zeros(9)), wrong)


def test_fewer_than_ten_references_tell_no_law():
    truth = np.random.default_rng(3).standard_normal((9, G))
    references = References(truth, np.full((9, G), 0.1), np.zeros(G), {"one": -truth})
    assert fit_sign_law(signs_of(fit_rectifier(references), references, ALL)) is None


def test_own_genes_and_those_that_cannot_be_listed_do_not_count():
    truth = np.random.default_rng(4).standard_normal((K, G))
    own = tuple(np.array([i]) for i in range(K))
    references = References(truth, np.zeros((K, G)), np.zeros(G), {"one": truth + 0.1}, own)
    signs = signs_of(fit_rectifier(references), references, np.arange(G) < 60)
    assert len(signs.reference) == K * 59
    assert np.array_equal(np.unique(signs.reference), np.arange(K))


def test_a_prediction_of_nothing_has_no_sign():
    rng = np.random.default_rng(5)
    predicted = np.where(np.arange(G) < 30, 0.0, rng.standard_normal((K, G)))
    references = References(predicted + 1.0, np.zeros((K, G)), np.zeros(G), {"one": predicted})
    signs = signs_of(fit_rectifier(references, lam=1.0, rho=0.0), references, ALL)
    assert len(signs.reference) == K * (G - 30)
    nothing = References(predicted, np.zeros((K, G)), np.zeros(G), {"one": 0 * predicted})
    assert not len(signs_of(fit_rectifier(nothing, lam=1.0, rho=0.0), nothing, ALL).reference)
