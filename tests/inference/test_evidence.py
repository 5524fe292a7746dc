from dataclasses import replace

import numpy as np
import pytest

from dbdiffusion.inference import Evidence, References, fit_rectifier, left_out_evidence, placebo_evidence, squared_errors
from dbdiffusion.metrics import error_ratio

K, G = 25, 120


def simulated(rng, *, share=1.0, error=0.7, own=0.3, control=0.2, common=0.5, k=K):
    """References whose predictor carries a share of the control's error, and the truth."""
    truth = rng.standard_normal((k, G)) + common * rng.standard_normal(G)
    e_0 = np.sqrt(control) * rng.standard_normal(G)
    seen = truth + np.sqrt(own) * rng.standard_normal((k, G)) - e_0
    predicted = truth + error * rng.standard_normal((k, G)) - share * e_0
    shares = {"model": share}
    return References(seen, np.full((k, G), own), np.full(G, control), {"model": predicted}, control_share=shares), truth


@pytest.mark.parametrize("weight", [0.0, 0.4, 1.0])
def test_known_noise_is_taken_out_in_expectation(weight):
    rng = np.random.default_rng(0)
    variance, control = rng.uniform(0.1, 1, (K, G)), rng.uniform(0.05, 0.5, G)
    truth = rng.standard_normal((K, G))
    told, true = 0.0, 0.0
    for _ in range(2000):
        e_0 = np.sqrt(control) * rng.standard_normal(G)
        seen = truth + np.sqrt(variance) * rng.standard_normal((K, G)) - e_0
        predicted = 0.6 * truth - weight * e_0
        told = told + squared_errors(seen, predicted, variance, control, weight) / 2000
        true = true + ((predicted - truth) ** 2).sum(axis=1) / 2000
    np.testing.assert_allclose(told, true, rtol=0.1)
    assert told.sum() == pytest.approx(true.sum(), rel=0.02)


def test_what_is_taken_out_is_the_formula():
    rng = np.random.default_rng(0)
    (seen, predicted), variance, control = rng.standard_normal((2, K, G)), rng.uniform(0, 1, (K, G)), rng.uniform(0, 1, G)
    for weight, of_control in ((0.0, -1.0), (0.5, 0.0), (1.0, 1.0), (0.3, -0.4)):
        expected = ((seen - predicted) ** 2).sum(axis=1) - variance.sum(axis=1) + of_control * control.sum()
        np.testing.assert_allclose(squared_errors(seen, predicted, variance, control, weight), expected)


def test_ratios_are_over_a_baseline_and_parts_are_parts():
    rng = np.random.default_rng(0)
    evidence = Evidence(*rng.uniform(1, 2, (3, K)))
    for name in ("mean", "zero"):
        assert evidence.ratio(name) == error_ratio(evidence.prediction, getattr(evidence, name))
    some = evidence.subset(np.arange(K) < 7)
    assert some.ratio("mean") == error_ratio(evidence.prediction[:7], evidence.mean[:7])


def test_the_better_baseline_is_named():
    one = np.ones(3)
    assert Evidence(one, one, 2 * one).best == "mean"
    assert Evidence(one, 2 * one, one).best == "zero"


@pytest.mark.parametrize(("share", "error"), [(1.0, 0.7), (0.0, 0.7), (0.0, 3.0)])
def test_left_out_evidence_is_the_error_against_the_truth_in_expectation(share, error):
    told, true = np.zeros(3), np.zeros(3)
    for seed in range(25):
        references, truth = simulated(np.random.default_rng(seed), share=share, error=error)
        rectifier = fit_rectifier(references)
        evidence = left_out_evidence(rectifier, references)
        mean_of_others = (references.effect.sum(axis=0) - references.effect) / (K - 1)
        told += [evidence.prediction.sum(), evidence.mean.sum(), evidence.zero.sum()]
        true += [((values - truth) ** 2).sum() for values in (rectifier.loo_predicted, mean_of_others, 0 * truth)]
    np.testing.assert_allclose(told, true, rtol=0.04)
    assert true[0] < true[1]


def test_evidence_is_of_the_placed_references_alone():
    references, _ = simulated(np.random.default_rng(0))
    placed = np.arange(K) % 3 > 0
    some = replace(references, placed=placed)
    whole, part = (left_out_evidence(fit_rectifier(references), one) for one in (references, some))
    for name in ("prediction", "mean", "zero"):
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name)[placed])
    nothing = left_out_evidence(fit_rectifier(references), replace(references, placed=np.zeros(K, dtype=bool)))
    assert np.isnan(nothing.ratio("mean")).all()


def test_own_genes_are_no_evidence():
    references, _ = simulated(np.random.default_rng(0))
    own = tuple(np.array([i]) for i in range(K))
    wild = replace(references, effect=references.effect.copy(), own_genes=own)
    wild.effect[np.arange(K), np.arange(K)] = -99.0
    tame = replace(references, own_genes=own)
    for evidence in (left_out_evidence, lambda _, one: placebo_evidence(one)[1]):
        np.testing.assert_allclose(*(evidence(fit_rectifier(tame), one).prediction for one in (tame, wild)))


@pytest.mark.parametrize("common", [0.0, 2.0])
def test_predictors_that_know_nothing_weigh_nothing_and_do_no_harm(common):
    weights, outcomes = [], {"prediction": 0.0, "mean": 0.0, "zero": 0.0}
    for seed in range(20):
        rng = np.random.default_rng(seed)
        references, _ = simulated(rng, common=common)
        noise = {name: rng.standard_normal((K, G)) + rng.standard_normal(G) for name in ("one", "other")}
        weight, evidence = placebo_evidence(references.with_predicted(noise))
        weights.append(weight)
        for name in outcomes:
            outcomes[name] += getattr(evidence, name).sum()
    assert np.mean(weights) < 0.05
    assert outcomes["prediction"] < 1.02 * min(outcomes["mean"], outcomes["zero"])


def test_a_predictor_that_became_the_mean_of_the_others_is_no_fault():
    rng = np.random.default_rng(0)
    references, _ = simulated(rng, common=2.0)
    mean = (references.effect.sum(axis=0) - references.effect) / (K - 1)
    fold = np.arange(K) % 5
    of_folds = np.stack([references.effect[fold != one].mean(axis=0) for one in fold])
    for values in (mean, of_folds, 0.8 * mean + 0.02 * rng.standard_normal((K, G))):
        weight, evidence = placebo_evidence(references.with_predicted({"mean": values}))
        assert weight < 0.05
        assert evidence.ratio("mean")[0] < 1.02


def test_a_predictor_that_knows_something_does_not_pass_for_a_placebo():
    references, _ = simulated(np.random.default_rng(0))
    before = references.predicted["model"].copy()
    weight, evidence = placebo_evidence(references)
    assert weight > 0.3
    assert evidence.ratio("mean")[0] < 0.8
    np.testing.assert_array_equal(references.predicted["model"], before)
