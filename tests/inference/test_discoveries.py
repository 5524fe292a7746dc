"""Laws of gene lists: what is listed is right as often as it is said to be."""

import numpy as np
import pytest

from dbdiffusion.inference import References, discoveries_of, fit_discoveries, fit_rectifier
from dbdiffusion.inference._discoveries import _Looks
from dbdiffusion.screen import ControlHalves

K, G = 40, 60
ALL = np.ones((K, G), dtype=bool)


def listed(predicted, observed, level, **options):
    """Every reference's list, made by the others (K, G)."""
    listable = np.ones(predicted.shape, dtype=bool)
    rule = fit_discoveries(predicted, observed, listable, **options)
    return rule.left_out_q_values(predicted, listable, options.get("coherence")) <= level


def test_an_exact_prediction_lists_everything():
    truth = np.random.default_rng(0).standard_normal((K, G))
    assert listed(truth, truth, 0.06).all()


def test_no_signal_lists_next_to_nothing():
    rng = np.random.default_rng(1)
    predicted, observed = rng.standard_normal((2, K, G))
    assert listed(predicted, observed, 0.2).any(axis=1).mean() <= 0.2


def test_q_values_rise_as_scores_fall_and_the_first_ten_share_one():
    rng = np.random.default_rng(2)
    truth = rng.standard_normal((K, G))
    predicted = truth + 0.5 * rng.standard_normal((K, G))
    rule = fit_discoveries(predicted, truth, ALL)
    q = rule.q_values(predicted[:3], ALL[:3])
    for values, score in zip(q, np.abs(predicted[:3]), strict=True):
        ordered = values[np.argsort(-score)]
        assert (np.diff(ordered) >= 0).all()
        assert np.unique(ordered[:10]).size == 1
    assert np.unique(q).size > 5
    assert (q <= 1).all()


def test_no_level_below_two_over_k_plus_one_is_promised():
    truth = np.random.default_rng(0).standard_normal((9, G))
    rule = fit_discoveries(truth, truth, np.ones((9, G), dtype=bool))
    assert rule.least_promise == pytest.approx(0.2)
    assert rule.q_values(np.abs(truth), np.ones((9, G), dtype=bool)).min() == pytest.approx(0.2)


def test_signs_of_everything_and_orders_do_not_matter():
    rng = np.random.default_rng(3)
    truth = rng.standard_normal((K, G))
    predicted = truth + rng.standard_normal((K, G))
    q = fit_discoveries(predicted, truth, ALL).q_values(np.abs(predicted), ALL)
    flipped = fit_discoveries(-predicted, -truth, ALL).q_values(np.abs(predicted), ALL)
    assert np.array_equal(q, flipped)
    rows, columns = rng.permutation(K), rng.permutation(G)
    moved = fit_discoveries(predicted[rows][:, columns], truth[rows][:, columns], ALL)
    np.testing.assert_allclose(moved.q_values(np.abs(predicted)[:, columns], ALL), q[:, columns])


def test_genes_that_cannot_be_listed_have_no_q_value_and_do_not_count():
    rng = np.random.default_rng(4)
    truth = rng.standard_normal((K, G))
    listable = np.broadcast_to(np.arange(G) < 40, (K, G))
    observed = np.where(listable, truth, -truth)
    rule = fit_discoveries(truth, observed, listable)
    q = rule.q_values(np.abs(truth), listable)
    assert np.isnan(q[~listable]).all()
    assert q[listable].max() <= 0.05


def test_a_target_with_fewer_than_ten_listable_genes_gets_no_list():
    truth = np.random.default_rng(5).standard_normal((K, G))
    few = np.arange(G)[None] < 9
    assert np.nanmin(fit_discoveries(truth, truth, ALL).q_values(np.abs(truth[:1]), few)) == 1


def test_the_others_alone_say_what_a_reference_lists():
    rng = np.random.default_rng(8)
    truth = rng.standard_normal((K, G))
    predicted, observed = (truth + 0.5 * rng.standard_normal((K, G)) for _ in range(2))
    left_out = fit_discoveries(predicted, observed, ALL).left_out_q_values(np.abs(predicted), ALL)
    for i in (0, K - 1):
        kept = np.arange(K) != i
        others = fit_discoveries(predicted[kept], observed[kept], ALL[kept])
        np.testing.assert_allclose(left_out[i], others.q_values(np.abs(predicted[[i]]), ALL[[i]])[0], atol=0.02)
    swapped = observed.copy()
    swapped[0] = -observed[0]  # what is seen of a reference does not change its own list
    again = fit_discoveries(predicted, swapped, ALL).left_out_q_values(np.abs(predicted), ALL)
    np.testing.assert_allclose(again[0], left_out[0])
    assert (again[1:] > left_out[1:]).any()


def test_effects_below_the_smallest_of_interest_count_as_false():
    rng = np.random.default_rng(6)
    truth = 0.3 * rng.choice([-1.0, 1.0], (K, G))
    predicted = 2 * truth
    assert listed(predicted, truth, 0.1).all()
    assert not listed(predicted, truth, 0.1, smallest=0.4).any()


def test_genes_without_a_predicted_effect_of_interest_are_in_no_list():
    rng = np.random.default_rng(9)
    truth = rng.standard_normal((K, G))
    no_effect = np.zeros((2, G))
    assert (fit_discoveries(truth, truth, ALL).q_values(no_effect, ALL[:2]) == 1).all()
    assert (fit_discoveries(0 * truth, truth, ALL).q_values(no_effect, ALL[:2]) == 1).all()  # a screen that tells nothing
    assert not listed(0 * truth, truth, 0.9).any()
    rule = fit_discoveries(truth, truth, ALL, smallest=0.4)
    assert np.array_equal(rule.q_values(truth, ALL) < 1, np.abs(truth) > 0.4)


def test_one_strong_reference_that_is_misplaced_does_not_take_the_lists_of_all():
    rng = np.random.default_rng(10)
    truth = rng.standard_normal((K, G))
    predicted = truth.copy()
    predicted[0] = -9 * truth[0]  # its genes alone reach the highest thresholds, and all are wrong there
    lists = listed(predicted, truth, 0.2)
    assert lists[1:].sum(axis=1).min() > G / 2


def test_neighbours_that_agree_come_first():
    rng = np.random.default_rng(7)
    truth = rng.standard_normal((2 * K, G))
    good = np.arange(2 * K) % 2 == 0
    predicted = np.where(good[:, None], truth, rng.standard_normal((2 * K, G)))
    coherence = np.where(good, 0.9, 0.05)
    plain, sorted_by = (listed(predicted, truth, 0.1, **options).sum() for options in ({}, {"coherence": coherence}))
    assert plain < K
    assert sorted_by > 10 * K


def test_genes_that_are_seen_clearly_come_first():
    """Of two genes of the same effect the one that is seen with less noise disagrees less often by chance."""
    rng = np.random.default_rng(11)
    noise = np.where(np.arange(G) % 2, 0.25, 4.0)
    truth = rng.standard_normal((2 * K, G))
    observed = truth + 0.5 * noise * rng.standard_normal(truth.shape)
    listable = np.ones(truth.shape, dtype=bool)
    lists = {}
    for told in (1.0, noise):
        rule = fit_discoveries(truth, observed, listable, noise=told)
        lists[np.ndim(told)] = rule.left_out_q_values(truth, listable) <= 0.1
        one = rule.q_values(np.ones((1, G)), listable[:1])[0]  # the same effect on all genes
        assert (one[noise < 1].max() < one[noise > 1].min()) == (np.ndim(told) == 1)
    assert lists[1].sum() > 1.2 * lists[0].sum()


@pytest.mark.parametrize(("n_splits", "holds"), [(0, False), (6, True)])
def test_the_error_of_one_control_mean_is_no_evidence(n_splits, holds):
    """A null screen whose control mean has one error along one factor, which predictions and observations share."""
    wrong = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        factor, n = rng.standard_normal(G), 40
        control = rng.standard_normal(n)[:, None] * factor + 0.1 * rng.standard_normal((n, G))
        observed = 0.05 * rng.standard_normal((K, G)) - control.mean(axis=0)
        predicted = np.repeat(observed.mean(axis=0)[None], K, axis=0)
        shifts = [(0.0, 0.0)]
        if n_splits:
            sides = [rng.permutation(n) < n // 2 for _ in range(n_splits)]
            first, second = (
                np.stack([control.mean(axis=0) - control[side == one].mean(axis=0) for side in sides])[:, None]
                for one in (True, False)
            )
            shifts = list(ControlHalves(first, second, np.ones((K, 1))).shifts())
        wrong.append(listed(predicted, observed, 0.1, shifts=shifts, control_weights=(1.0,)).any())  # there is no effect
    assert (np.mean(wrong) <= 0.1) == holds


def test_a_gene_s_own_threshold_is_the_last_that_it_reaches():
    """Rule and look-up make the same score of the same gene, to the last digit."""
    truth = np.full((K, G), 0.13877551020408163) * np.random.default_rng(17).choice([-1, 1], (K, G))
    coherence, noise = np.full(K, 0.3), np.full(G, 2.1)
    rule = fit_discoveries(truth, truth, ALL, coherence, noise=noise)
    assert rule.q_values(truth, ALL, coherence).max() == pytest.approx(2 / (K + 1))


def screen_of_few_control_cells(rng, n_control=12, effect=1.0, common=0.0):
    """Effects seen against few control cells, predictions that carry the control's error as means of effects do, and halves."""
    control = 2.0 * rng.standard_normal((n_control, G))
    truth = effect * rng.standard_normal((K, G)) + common * rng.standard_normal(G)
    seen = truth - control.mean(axis=0) + 0.3 * rng.standard_normal((K, G))
    predicted = {"good": truth - control.mean(axis=0) + 0.5 * effect * rng.standard_normal((K, G))}
    sides = [rng.permutation(n_control) < n_control // 2 for _ in range(6)]
    first = np.stack([control.mean(axis=0) - control[side].mean(axis=0) for side in sides])[:, None]
    references = References(seen, np.full((K, G), 0.09), np.full(G, 4.0 / n_control), predicted)
    return references, ControlHalves(first, -first, np.ones((K, 1))), truth


def test_what_is_known_of_the_control_s_error_costs_no_genes():
    """Few control cells, whose error all perturbations tell: lists are nearly as long as if it were not there."""
    lengths = {}
    for n_control in (12, 10_000):
        references, halves, truth = screen_of_few_control_cells(np.random.default_rng(12), n_control)
        references = references.corrected()
        rectifier = fit_rectifier(references)
        rule = discoveries_of(rectifier, references, ALL[0], halves)
        listed = rule.left_out_q_values(rectifier.loo_predicted, ALL) <= 0.2
        lengths[n_control] = listed.sum()
        assert (np.sign(rectifier.loo_predicted) != np.sign(truth))[listed].mean() < 0.1
    assert lengths[12] > 0.8 * lengths[10_000]


@pytest.mark.parametrize("common", [0.0, 0.5])
def test_predictions_share_next_to_nothing_of_the_control_s_error_with_what_is_looked_at(common):
    """In squared units of its standard deviation; exactly nothing, were it known how much all have in common."""
    shared, without = [], []
    for seed in range(200):
        references, halves, truth = screen_of_few_control_cells(np.random.default_rng(seed), effect=0.3, common=common)
        corrected = references.corrected()
        looks = _Looks.of(corrected, halves, np.arange(K))
        taken = corrected.predicted["good"] - references.predicted["good"]
        carried = references.effect.mean(axis=0) - truth.mean(axis=0) + taken  # nearly, noise of K perturbations in it
        for mine, others in looks.shifts():
            shared.append(np.mean((carried + mine) * (looks.observed - truth + others)))
        without.append(np.mean(carried * (references.effect - truth)))
    variance = references.control_variance[0]
    assert abs(np.mean(shared)) < 0.1 * variance
    assert np.mean(without) > (0.3 if common else 0.05) * variance


def test_where_nothing_has_an_effect_nothing_is_listed():
    """A prediction that carries the control's error agrees with all that is seen against the same control cells."""
    any_list = {"halved": [], "not halved": [], "corrected": []}
    for seed in range(20):
        plain, halves, _ = screen_of_few_control_cells(np.random.default_rng(seed), effect=0.0)
        for name, references, half in (
            ("halved", plain, halves), ("not halved", plain, None), ("corrected", plain.corrected(), halves)
        ):  # fmt: skip
            rectifier = fit_rectifier(references, 1.0, 0.0)  # believes the predictor
            q = discoveries_of(rectifier, references, ALL[0], half).left_out_q_values(rectifier.loo_predicted, ALL)
            any_list[name].append((q <= 0.2).any(axis=1).mean())
    assert np.mean(any_list["halved"]) <= 0.05
    assert np.mean(any_list["corrected"]) <= 0.05
    assert np.mean(any_list["not halved"]) > 0.9
