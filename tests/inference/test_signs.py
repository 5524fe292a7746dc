"""How often predicted signs are wrong: laws of the local false sign rate."""

from dataclasses import replace

import numpy as np
import pytest

from dbdiffusion.inference import (
    References,
    SignLaw,
    SignLaws,
    Signs,
    fit_rectifier,
    fit_sign_law,
    signs_of,
    supports,
)
from dbdiffusion.inference import _signs as module

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
    support = supports(rectifier.loo_between, references.typical_noise)
    lfsr = law.wrong(rectifier.loo_predicted, rectifier.loo_between, np.zeros(G), support)
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
        support = supports(rectifier.tau**2, references.typical_noise)
        of_each = law.wrong(effect, rectifier.tau**2, rectifier.control_variance, support)[0]
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


def references_of_two_kinds_of_genes(seed):
    """Effects of half of the genes follow predictions; those of the others are nothing, predictions are means of noise."""
    rng = np.random.default_rng(seed)
    changes, n = np.arange(G) % 2 == 0, 60
    noise = np.where(changes, 0.3, 1.0) ** 2
    truth = np.where(changes, rng.standard_normal((n, G)), 0.05 * rng.standard_normal((n, G)))
    predicted = np.where(changes, truth + 0.8 * rng.standard_normal((n, G)), 0.5 * rng.standard_normal((n, G)))
    seen = truth + np.sqrt(noise) * rng.standard_normal((n, G))
    return References(seen, np.broadcast_to(noise, (n, G)), np.zeros(G), {"one": predicted}), truth, changes


def test_genes_whose_effects_are_all_noise_are_less_sure_by_their_support():
    """Beside how little they vary their predictions are large, so without support they look as sure as others."""
    references, truth, changes = references_of_two_kinds_of_genes(6)
    rectifier = fit_rectifier(references, lam=1.0, rho=0.0)
    signs = signs_of(rectifier, references, ALL)
    support = supports(rectifier.loo_between, references.typical_noise)
    told, untold = (
        fit_sign_law(replace(signs, support=share * signs.support)).wrong(
            rectifier.loo_predicted, rectifier.loo_between, np.zeros(G), share * support
        )
        for share in (1.0, 0.0)
    )
    wrong = np.sign(rectifier.loo_predicted) != np.sign(truth)
    assert told[:, changes].mean() == pytest.approx(wrong[:, changes].mean(), abs=0.03)
    assert untold[:, ~changes].mean() + 0.03 < told[:, ~changes].mean() < wrong[:, ~changes].mean()


@pytest.mark.parametrize("slope", [-0.7, 0.0, 1.2])
def test_the_gradient_is_that_of_the_likelihood(slope):
    rng = np.random.default_rng(7)
    columns = [np.abs(rng.standard_normal(90)), rng.standard_normal(90), *rng.uniform(0.2, 2, (3, 90)), rng.standard_normal(90)]
    signs, at = Signs(np.arange(90), *columns), np.array([-1.5, -0.4, 0.2, 1.6, -0.3, slope])
    value, gradient = module._law_of(at).gradient(signs)
    for k, step in enumerate(1e-5 * np.eye(6)):
        after, before = (module._law_of(at + sign * step).gradient(signs)[0] for sign in (1, -1))
        assert gradient[k] == pytest.approx((after - before) / 2e-5, abs=1e-5)
    assert np.isfinite(value)


def test_support_makes_surer_and_goes_on_level_beyond_the_references():
    laws = SignLaws(np.array([]), (SignLaw(0.1, 0.5, 1.0, 9.0, slope=0.8),), (-1.0, 0.0, 2.0))
    support = np.array([-5.0, -1.0, 0.5, 2.0, 5.0])
    wrong = laws.wrong(np.ones(5), np.ones(5), np.full(5, 0.1), support)
    assert wrong[0] == wrong[1] > wrong[2] > wrong[3] == wrong[4]


def test_support_is_more_where_neighbours_agree_and_a_gene_varies_beyond_its_noise():
    between, noise = np.array([0.01, 0.04, 1.0]), np.array([1.0, 1.0, 0.5])
    support = supports(between, noise, np.array([[0.2], [0.9]]))
    assert (np.diff(support, axis=1) > 0).all()
    assert (np.diff(support, axis=0) > 0).all()


def test_units_of_effects_and_genes_that_do_not_vary_at_all_do_not_matter():
    references, _, _ = references_of_two_kinds_of_genes(8)
    laws = []
    for unit in (1.0, 1e-4):
        small = References(
            unit * references.effect, unit**2 * references.variance, np.zeros(G), {"one": unit * references.predicted["one"]}
        )
        rectifier = fit_rectifier(small, lam=1.0, rho=0.0)
        signs = signs_of(rectifier, small, ALL)
        quiet = replace(
            signs,
            between=np.where(signs.reference == 0, 0.0, signs.between),
            support=np.where(signs.reference == 0, -np.inf, signs.support),
        )
        law = fit_sign_law(quiet)
        laws.append(
            law.wrong(
                rectifier.loo_predicted,
                rectifier.loo_between,
                np.zeros(G),
                supports(rectifier.loo_between, small.typical_noise),
            )
        )
    assert np.isfinite(laws[0]).all()
    np.testing.assert_allclose(laws[0], laws[1], atol=0.01)


def test_support_never_speaks_against_a_prediction():
    """Where more support goes with less truth, it is not used: a target that nothing places has the least of it."""
    rng, n = np.random.default_rng(9), 6_000
    support, predicted, one = rng.uniform(-1.5, 1.5, n), np.abs(rng.standard_normal(n)), np.ones(n)
    effect = np.exp(-support) * predicted + 0.5 * rng.standard_normal(n)
    law = fit_sign_law(Signs(np.arange(n) % 40, predicted, effect, one, 0 * one, 0.1 * one, support))
    assert all(one.slope == 0 for one in law.laws)


def test_targets_whose_neighbours_agree_are_surer():
    rng = np.random.default_rng(10)
    coherence = rng.uniform(0.05, 1, 60)
    predicted = rng.standard_normal((60, G))
    truth = coherence[:, None] * predicted + 0.5 * rng.standard_normal((60, G))
    references = References(truth, np.full((60, G), 0.01), np.zeros(G), {"one": predicted}, coherence=coherence)
    rectifier = fit_rectifier(references, lam=1.0, rho=0.0)
    law = fit_sign_law(signs_of(rectifier, references, ALL))
    low, high = (
        law.wrong(np.ones(G), rectifier.tau**2, np.zeros(G), supports(rectifier.tau**2, references.typical_noise, of)).mean()
        for of in (0.1, 0.9)
    )
    assert high + 0.1 < low


@pytest.mark.parametrize("seed", range(4))
def test_last_digits_of_predictions_do_not_choose_the_law(seed):
    """With few references a likelihood may have several peaks; which one is found must not hang on rounding."""
    rng = np.random.default_rng(seed)
    n, one = 13 * 50, np.ones(13 * 50)
    predicted = np.abs(rng.standard_normal(n))
    effect = np.where(np.arange(n) % 13 < 3, 0, predicted) + rng.standard_t(3, n)
    signs = Signs(np.arange(n) % 13, predicted, effect, one, 0 * one, one, 0 * one)
    of_each = []
    for off in (0.0, 1e-6, -1e-6):
        law = fit_sign_law(replace(signs, predicted=predicted * (1 + off * rng.standard_normal(n))))
        of_each.append(law.wrong(predicted, one, 0 * one, 0 * one))
        assert all(of.strength <= 2 for of in law.laws)
    np.testing.assert_allclose(of_each[1:], np.broadcast_to(of_each[0], (2, n)), atol=1e-3)


def test_of_a_class_the_first_are_fitted_and_they_are_drawn_at_random():
    """So a sign that is gone changes no other's place among those that are looked at."""
    references, _, _ = references_of_two_kinds_of_genes(8)
    rectifier = fit_rectifier(references, lam=1.0, rho=0.0)
    signs = signs_of(rectifier, references, ALL)
    assert abs(np.corrcoef(signs.reference, np.arange(len(signs.reference)))[0, 1]) < 0.1
    law, without_one = (fit_sign_law(one) for one in (signs, signs.subset(np.arange(1, len(signs.reference)))))
    asked = (np.linspace(0.1, 3, 20), np.ones(20), np.zeros(20), np.zeros(20))
    np.testing.assert_allclose(law.wrong(*asked), without_one.wrong(*asked), atol=0.01)
