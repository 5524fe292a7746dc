from dataclasses import replace

import numpy as np
import pytest

from dbdiffusion.inference import References, fit_rectifier
from dbdiffusion.inference._left_out_fit import _calibrated_slope, left_out_fit

K, G = 20, 31


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_it_is_what_the_rectifier_is_made_of(rng):
    seen = rng.standard_normal((K, G))
    references = References(seen, np.full((K, G), 0.1), np.zeros(G), {"model": seen + rng.standard_normal((K, G))})
    fit, rectifier = left_out_fit(references), fit_rectifier(references)
    assert rectifier.weights == {"model": fit.weight[0]}
    assert np.array_equal(rectifier.loo_predicted, fit.predicted)
    assert rectifier.control_weight == fit.control_weight


def test_slopes_are_the_formula_and_know_nothing_of_the_reference_left_out(rng):
    k, g = 6, 40
    predicted = rng.standard_normal((k, g))
    seen = 0.5 * predicted + rng.standard_normal((k, g))
    references = References(seen, np.ones((k, g)), np.full(g, 0.05), {"model": predicted}, control_norm_cv=0.2)
    agreement = references.likely_agreement(predicted, 0.4)
    assert agreement > 0

    def shrunk(kept):
        product, square = (seen[kept] * predicted[kept]).sum(axis=1) - agreement, (predicted[kept] ** 2).sum(axis=1)
        slope = product.sum() / square.sum()
        left_out = [np.delete(product, i).sum() / np.delete(square, i).sum() for i in range(len(kept))]
        variance = (len(kept) - 1) / len(kept) * sum((one - slope) ** 2 for one in left_out)
        return slope * (1 - variance / slope**2)

    slope, of_others = _calibrated_slope(references, predicted, 0.4)
    np.testing.assert_allclose(slope, shrunk(list(range(k))))
    np.testing.assert_allclose(of_others, [shrunk([i for i in range(k) if i != left]) for left in range(k)])
    changed = seen.copy()
    changed[2] += 5 * predicted[2]
    other_slope, other_of_others = _calibrated_slope(replace(references, effect=changed), predicted, 0.4)
    assert other_of_others[2] == of_others[2]
    assert other_slope != slope


@pytest.mark.parametrize(("factor", "expected"), [(-0.5, 0.0), (0.7, 0.7), (1.6, 1.0)])
def test_slopes_that_all_references_agree_on_are_not_shrunk(factor, expected, rng):
    predicted = rng.standard_normal((K, G))
    references = References(factor * predicted, np.zeros((K, G)), np.zeros(G), {"model": predicted})
    slope, of_others = _calibrated_slope(references, predicted, 1.0)
    np.testing.assert_allclose([slope, *of_others], expected)
    assert not np.signbit([slope, *of_others]).any()


def test_a_slope_that_a_few_references_decide_is_shrunk(rng):
    k, g = 20, 200
    shrunk = {}
    for n_predicted in (2, k):
        predicted = np.where(np.arange(k)[:, None] < n_predicted, 1.0, 0.01) * rng.standard_normal((k, g))
        right = np.where(np.arange(k)[:, None] % 2, 0.1, 0.9)  # every other prediction is right
        references = References(right * predicted, np.zeros((k, g)), np.zeros(g), {"model": predicted})
        shrunk[n_predicted] = _calibrated_slope(references, predicted, 1.0)[0]
    assert shrunk[2] < 0.1
    assert 0.45 < shrunk[k] < 0.5  # nearly as fitted


def test_nothing_predicted_has_no_slope():
    references = References(np.ones((K, G)), np.zeros((K, G)), np.ones(G), {"model": np.zeros((K, G))})
    slope, of_others = _calibrated_slope(references, np.zeros((K, G)), 1.0)
    assert slope == 0
    assert not of_others.any()
