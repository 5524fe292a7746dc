"""Laws of the confidence in a target: what is said of its accuracy is what comes out, and says no more than references tell."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from dbdiffusion.inference import Confidence, References, confidence_features, fit_confidence, fit_rectifier
from dbdiffusion.inference._confidence import fit_expectation
from dbdiffusion.screen import ControlHalves

K, G = 40, 130
ALL = np.ones(G, dtype=bool)


def a_screen(seed=0, n=K, noise=0.1, strength=None):
    """Truth, prediction and observation, where strong perturbations are predicted better."""
    rng = np.random.default_rng(seed)
    strength = np.geomspace(0.3, 3.0, n)[:, None] if strength is None else strength
    signal = strength * rng.standard_normal((n, G))
    truth = signal + rng.standard_normal((n, G))
    return truth, signal, truth + np.sqrt(noise) * rng.standard_normal((n, G))


def references_of(observed, predicted, noise=0.1, coherence=None, **options):
    coherence = np.ones(len(observed)) if coherence is None else coherence
    variance = np.full(observed.shape, noise)
    return References(observed, variance, np.zeros(G), {"one": predicted}, coherence=coherence, **options)


def confidence_of(references, similarity=None, halves=None, listable=ALL):
    similarity = np.zeros(len(references.effect)) if similarity is None else similarity
    return fit_confidence(fit_rectifier(references), references, similarity, listable, halves)


def test_expected_and_true_correlation_go_together_and_agree_on_average():
    truth, predicted, observed = a_screen()
    said = confidence_of(references_of(observed, predicted)).left_out()["correlation"]
    realised = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(truth, predicted, strict=True)])
    assert stats.spearmanr(said, realised)[0] > 0.8
    assert abs(said.mean() - realised.mean()) < 0.03


def test_noise_of_the_observation_is_taken_out():
    truth, predicted, observed = a_screen(noise=3.0)
    correlation = confidence_of(references_of(observed, predicted, noise=3.0)).correlation
    realised = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(truth, predicted, strict=True)])
    against_observed = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(observed, predicted, strict=True)])
    assert abs((correlation - realised).mean()) < 0.05 < (realised - against_observed).mean()


def test_an_exact_prediction_has_no_wrong_sign():
    truth, _, _ = a_screen()
    said = confidence_of(references_of(truth, truth, noise=0.0)).left_out()
    assert said["correlation"].min() > 0.98
    assert (said["right_20"] > 0.98).all()
    assert (said["right_20_high"] == 1).all()


def test_a_prediction_of_chance_is_right_half_of_the_time():
    rng = np.random.default_rng(1)
    features = rng.standard_normal((K, 3))
    confidence = Confidence(features, 0.1 * rng.standard_normal(K), {20: rng.binomial(20, 0.5, K) / 20})
    said = confidence.left_out()
    assert abs(said["right_20"].mean() - 0.5) < 0.05
    assert abs(said["correlation"]).max() < 0.1


def test_where_features_do_not_differ_all_targets_are_like_the_mean():
    rng = np.random.default_rng(2)
    correlation = np.tanh(rng.standard_normal(K))
    features = 1e-3 * np.arctanh(correlation)[:, None] + np.zeros((1, 3))  # in step with it, but hardly different
    said = Confidence(features, correlation, {}).left_out()["correlation"]
    np.testing.assert_allclose(np.arctanh(said), np.arctanh(correlation).mean(), atol=0.1)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_intervals_hold_as_many_new_targets_as_they_say(level):
    rng = np.random.default_rng(3)
    inside = []
    for _ in range(100):
        features = rng.standard_normal((K + 1, 2))
        accuracy = features[:, 0] + 0.5 * rng.standard_t(4, K + 1)
        _, low, high = fit_expectation(features[:K], accuracy[:K]).at(features[K:], level)
        inside.append(low[0] <= accuracy[K] <= high[0])
    assert abs(np.mean(inside) - level) < 2.5 * np.sqrt(level * (1 - level) / 100) + 1 / K


def test_too_few_references_for_an_interval_leave_it_open():
    features, accuracy = np.zeros((12, 1)), np.linspace(-1, 1, 12)
    _, low, high = fit_expectation(features, accuracy).at(features[:1], 0.95)
    assert np.isinf(low).all()
    assert np.isinf(high).all()


def test_left_out_errors_are_those_of_lines_through_the_others():
    rng = np.random.default_rng(12)
    features = np.round(rng.standard_normal((17, 3)), 1)  # with ties, at the ends too
    accuracy = features @ [0.3, -1.0, 0.0] + rng.standard_normal(17)
    errors = []
    for i in range(17):
        others = np.delete(np.arange(17), i)
        line = fit_expectation(features[others], accuracy[others])
        errors.append(accuracy[i] - line.at(features[[i]], 0.9)[0][0])
    np.testing.assert_allclose(fit_expectation(features, accuracy).error, np.sort(errors))


def test_a_reference_does_not_speak_of_itself():
    _, predicted, observed = a_screen()
    confidence = confidence_of(references_of(observed, predicted))
    changed = confidence.correlation.copy()
    changed[7] = -0.9
    other = dataclasses.replace(confidence, correlation=changed)
    assert other.left_out()["correlation"][7] == confidence.left_out()["correlation"][7]


def test_signs_units_and_orders_do_not_matter():
    rng = np.random.default_rng(4)
    _, predicted, observed = a_screen()
    similarity, coherence = rng.uniform(-1, 1, K), rng.uniform(0.1, 1, K)
    said = confidence_of(references_of(observed, predicted, coherence=coherence), similarity).left_out()
    flipped = confidence_of(references_of(-observed, -predicted, coherence=coherence), similarity).left_out()
    twice = confidence_of(references_of(2 * observed, 2 * predicted, noise=0.4, coherence=coherence), similarity).left_out()
    rows, columns = rng.permutation(K), rng.permutation(G)
    moved = references_of(observed[rows][:, columns], predicted[rows][:, columns], coherence=coherence[rows])
    moved = confidence_of(moved, similarity[rows]).left_out()
    for name, values in said.items():
        np.testing.assert_allclose(flipped[name], values)
        np.testing.assert_allclose(twice[name], values, rtol=1e-4)
        np.testing.assert_allclose(moved[name], values[rows], atol=1e-6)


def test_agreement_by_the_error_of_one_control_mean_is_no_evidence():
    rng = np.random.default_rng(5)
    error, n_splits = rng.standard_normal(G), 6
    first = rng.standard_normal((n_splits, 1, G))
    halves = ControlHalves(first, -first, np.ones((K, 1)))
    # nothing but the control's error in all observed effects: their mean agrees with each of them
    observed = -error + 0.01 * rng.standard_normal((K, G))
    references = References(
        observed, np.full((K, G), 1e-4), np.ones(G), {"mean": np.repeat(-error[None], K, axis=0)}, coherence=np.ones(K)
    )
    rectifier = dataclasses.replace(
        fit_rectifier(references), loo_predicted=np.repeat(-error[None], K, axis=0), control_weight=1.0
    )
    shared = fit_confidence(rectifier, references, np.zeros(K), ALL)
    split = fit_confidence(rectifier, references, np.zeros(K), ALL, halves)
    assert min(shared.correlation.min(), shared.right[20].min()) > 0.9
    assert split.correlation.max() < 0.5
    assert split.right[20].max() < 0.6


def test_own_genes_and_genes_that_cannot_be_listed_do_not_count():
    _, predicted, observed = a_screen()
    own = tuple(np.array([i]) for i in range(K))
    hit = observed.copy()
    hit[np.arange(K), np.arange(K)] = -50.0
    plain = confidence_of(references_of(hit, predicted, own_genes=own))
    assert plain.correlation[-10:].min() > 0.8
    listable = np.arange(G) < 100
    spoiled = np.where(listable, observed, -observed)
    right = confidence_of(references_of(spoiled, predicted), listable=listable).right
    assert right[20][-10:].min() > 0.9


def test_a_number_of_genes_that_is_not_reached_is_not_spoken_of():
    _, predicted, observed = a_screen()
    assert set(confidence_of(references_of(observed, predicted), listable=np.arange(G) < 30).right) == {20}


def test_of_a_prediction_of_no_effect_nothing_is_said():
    _, predicted, observed = a_screen()
    confidence = confidence_of(references_of(observed, predicted))
    nothing = confidence_features(np.zeros((2, G)), np.ones(2), np.zeros(2))
    assert all(np.isnan(values).all() for values in confidence.expected(nothing).values())


def test_fewer_than_ten_references_say_nothing():
    _, predicted, observed = a_screen(n=9)
    assert confidence_of(references_of(observed, predicted)) is None
