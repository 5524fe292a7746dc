"""The control's error, as far as all perturbations tell it."""

import numpy as np
import pytest

from dbdiffusion.inference import References, fit_rectifier, left_out_rules
from dbdiffusion.inference._tuning import MIN_FOR_CONTROL_ERROR, control_error, mean_of_others

K, G = 31, 170


def screen(common=0.0, between=0.5, control=1.0, n=K, seed=0, shares=None):
    """References whose effects have a part in common, the control's error, and the truth."""
    rng = np.random.default_rng(seed)
    truth = common * rng.standard_normal(G) + between * rng.standard_normal((n, G))
    error = np.sqrt(control) * rng.standard_normal(G)
    seen = truth + error + 0.3 * rng.standard_normal((n, G))
    predicted = {"one": truth + error + rng.standard_normal((n, G)), "other": 0.1 * rng.standard_normal((n, G))}
    shares = {"other": 0.0} if shares is None else shares
    return References(seen, np.full((n, G), 0.09), np.full(G, control), predicted, control_share=shares), truth, error


def test_what_no_perturbation_has_of_its_own_is_taken_for_the_control_s_error():
    references, truth, error = screen()
    corrected = references.corrected()
    before, after = (((one.effect - truth) ** 2).mean() for one in (references, corrected))
    assert after < 0.3 * before
    assert corrected.weight_of_control(1.0) < 0.2
    found = control_error(references).of_targets
    assert np.corrcoef(found, error)[0, 1] > 0.95


def test_what_many_have_in_common_is_left_to_them():
    references, _, _ = screen(common=10.0, control=0.01)
    corrected = references.corrected()
    assert corrected.weight_of_control(1.0) > 0.99
    np.testing.assert_allclose(corrected.effect, references.effect, atol=0.05)


@pytest.mark.parametrize("common", [0.0, 0.5, 1.0, 2.0])
def test_taking_it_out_does_not_make_effects_worse(common):
    errors = [
        [((one.effect - truth) ** 2).mean() for one in (references, references.corrected())]
        for references, truth, _ in (screen(common, seed=seed) for seed in range(8))
    ]
    before, after = np.mean(errors, axis=0)
    assert after < before


@pytest.mark.parametrize("common", [0.0, 1.0])
def test_what_is_left_is_as_large_as_is_said(common):
    """And so is the error of any prediction: here of none, and of what all have in common."""
    left, errors = [], []
    for seed in range(60):
        references, truth, error = screen(common=common, control=0.2, seed=seed)
        corrected = references.corrected()
        found = corrected.control_error
        left.append(((found.mistaken + found.noise).mean(), ((error - found.of_targets) ** 2).mean()))
        for predicted in (0.0, mean_of_others(references.effect) - found.of_targets):
            against_seen = ((corrected.effect - predicted) ** 2 - corrected.variance).mean()
            errors.append((against_seen + corrected.control_error.mistaken.mean(), ((truth - predicted) ** 2).mean()))
    said, came = np.mean(left, axis=0)
    assert came == pytest.approx(said, abs=0.02)
    for one in (errors[::2], errors[1::2]):
        said, came = np.mean(one, axis=0)
        assert came == pytest.approx(said, rel=0.1)


def test_own_effect_of_a_reference_changes_no_bit_of_what_is_taken_out_of_it():
    references, _, _ = screen()
    other = references.effect.copy()
    other[4] = 7 * np.random.default_rng(9).standard_normal(G)
    changed = References(other, references.variance, references.control_variance, references.predicted)
    first, second = (control_error(one).of_references for one in (references, changed))
    assert np.array_equal(first[4], second[4])
    assert not np.array_equal(first[5], second[5])


def test_own_genes_say_nothing_of_it():
    references, _, _ = screen()
    hit = references.effect.copy()
    hit[np.arange(K), np.arange(K)] -= 50
    fields = (references.variance, references.control_variance, references.predicted)
    own = tuple(np.array([i]) for i in range(K))
    first, second = (control_error(References(one, *fields, own)).of_targets for one in (references.effect, hit))
    assert np.array_equal(first, second)


def test_predictions_lose_the_share_that_they_carry():
    references, _, _ = screen()
    corrected = references.corrected()
    taken = corrected.control_error.of_targets
    np.testing.assert_array_equal(corrected.predicted["one"], references.predicted["one"] - taken)
    np.testing.assert_array_equal(corrected.predicted["other"], references.predicted["other"])
    target = {"one": np.ones((2, G)), "other": np.ones((2, G))}
    of_targets = corrected.of_targets(target)
    np.testing.assert_array_equal(of_targets["one"], 1 - np.repeat(corrected.control_error.of_targets[None], 2, axis=0))
    np.testing.assert_array_equal(of_targets["other"], 1.0)
    assert references.of_targets(target).keys() == target.keys()
    np.testing.assert_array_equal(corrected.of_targets(references.predicted)["one"], corrected.predicted["one"])
    np.testing.assert_allclose(corrected.seen, references.effect, atol=1e-12)


def test_rules_without_a_reference_agree_with_the_rectifier():
    corrected = screen(common=0.5)[0].corrected()
    rectifier, direction = fit_rectifier(corrected), np.random.default_rng(3).standard_normal(G)
    rules = left_out_rules(rectifier, corrected)
    target = corrected.of_targets({"one": np.ones((1, G)), "other": np.zeros((1, G))})
    whole = rectifier.estimate(target).effect @ direction
    each = rules.along(direction, target)
    assert np.abs(each - whole).max() < 0.1 * np.abs(whole)
    of_references = rules.along(direction, corrected.predicted)
    np.testing.assert_allclose(np.diag(of_references), rectifier.loo_predicted @ direction, rtol=1e-6, atol=1e-6)


def test_a_predictor_that_knows_nothing_gets_no_weight_from_it():
    """Less the mean of the others it would know every reference: what lies below that mean in all genes is the reference."""
    weights = []
    for seed in range(8):
        one = screen(common=0.5, seed=seed, n=12)[0]
        fields = (one.effect, one.variance, one.control_variance, {"nothing": np.zeros((12, G))})
        weights.append(fit_rectifier(References(*fields, control_share={"nothing": 0.5}).corrected()).weights["nothing"])
    assert max(weights) < 0.2


def test_it_is_taken_out_once_and_only_where_enough_references_tell_it():
    references, _, _ = screen()
    corrected = references.corrected()
    assert corrected.corrected() is corrected
    few = screen(n=MIN_FOR_CONTROL_ERROR - 1)[0]
    assert few.corrected() is few
    exact = References(references.effect, references.variance, np.zeros(G), references.predicted)
    assert exact.corrected() is exact
