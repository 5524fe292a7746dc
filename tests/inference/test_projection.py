"""Laws of projections: what is said of a direction holds as often as it is said to, however genes' errors are correlated."""

import numpy as np
import pytest
from scipy import stats

from dbdiffusion.inference import (
    Projection,
    References,
    check_alternative,
    control_spread,
    fit_rectifier,
    hits,
    left_out_rules,
    observed_along,
    project,
)
from dbdiffusion.screen import ControlHalves

K, G, T = 39, 23, 7


def simple(predicted, observed):
    return Projection(predicted, observed, np.zeros(len(observed)))


def many_screens(n, k=K, t=1, noise=1.0, seed=0):
    """Predictions and observations of k references and t targets, all alike; errors with heavy tails."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        truth = rng.standard_normal(k + t)
        predicted = truth + noise * rng.standard_t(2, k + t)
        yield predicted[:k], truth[:k], predicted[k:], truth[k:]


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
def test_intervals_hold_as_many_as_they_say_whatever_the_errors(confidence):
    inside = []
    for predicted, observed, asked, truth in many_screens(600, t=3):
        low, high = simple(predicted, observed).interval(asked, confidence)
        inside.append(((low <= truth) & (truth <= high)).mean())
    assert abs(np.mean(inside) - confidence) < 3 * np.std(inside) / np.sqrt(len(inside)) + 1 / (K + 1)


def test_an_interval_is_unbounded_where_references_are_too_few_and_that_is_said():
    rng = np.random.default_rng(0)
    few, enough = (simple(*rng.standard_normal((2, k))) for k in (18, 19))
    assert np.isinf(few.interval(np.zeros(T), 0.95)).all()
    assert np.isfinite(enough.interval(np.zeros(T), 0.95)).all()
    assert "needs 19 references, and there are 18" in few.said(1, 0.5, 0.95)[0]
    assert enough.said(1, 0.5, 0.95) == []


def test_the_jackknife_plus_grows_with_what_one_reference_changes():
    rng = np.random.default_rng(0)
    projection = simple(*rng.standard_normal((2, K)))
    asked = rng.standard_normal(T)
    low, high = projection.interval(asked, 0.9)
    same = projection.interval(np.repeat(asked[:, None], K, axis=1), 0.9)
    assert np.array_equal(same, (low, high))
    assert np.allclose(high - asked, asked - low)
    unstable = projection.interval(asked[:, None] + rng.standard_normal((T, K)), 0.9)
    assert (unstable[1] - unstable[0] > high - low).all()


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_hits_are_false_no_more_often_than_they_say(alternative, threshold):
    if alternative == "less":
        threshold = -threshold
    proportion = []
    for predicted, observed, asked, truth in many_screens(600, t=20):
        found = hits(simple(predicted, observed).p_values(asked, threshold, alternative)) <= 0.2
        side = {"greater": 1, "less": -1, "two-sided": np.sign(asked)}[alternative]
        beyond = side * truth > (abs(threshold) if alternative != "greater" else threshold)
        proportion.append((found & ~beyond).sum() / max(found.sum(), 1))
    assert np.mean(proportion) <= 0.2 + 2 * np.std(proportion) / np.sqrt(len(proportion))
    assert np.mean(proportion) > 0.02  # and not by never finding anything


def test_a_p_value_counts_the_references_that_were_predicted_as_far_and_did_not_get_there():
    rng = np.random.default_rng(3)
    predicted, observed = rng.standard_normal((2, K))
    asked = np.append(rng.standard_normal(T), predicted[:2])  # ties count
    naive = [(1 + ((observed <= 0.1) & (predicted >= one)).sum()) / (K + 1) for one in asked]
    assert np.allclose(simple(predicted, observed).p_values(asked, 0.1), naive)
    naive = [(1 + ((np.sign(predicted) * observed <= 0.1) & (np.abs(predicted) >= abs(one))).sum()) / (K + 1) for one in asked]
    assert np.allclose(simple(predicted, observed).p_values(asked, 0.1, "two-sided"), naive)


def test_both_sides_mirror_each_other():
    rng = np.random.default_rng(4)
    predicted, observed = rng.standard_normal((2, K))
    asked, sd = rng.standard_normal(T), np.full(K, 0.3)
    one, other = Projection(predicted, observed, sd, 6.0, 0.5), Projection(-predicted, -observed, sd, 6.0, 0.5)
    assert np.allclose(one.p_values(asked, 0.2), other.p_values(-asked, -0.2, "less"))
    assert np.allclose(one.p_values(asked, 0.2, "two-sided"), other.p_values(-asked, 0.2, "two-sided"))
    assert np.allclose(one.interval(asked)[0], -other.interval(-asked)[1])
    assert one.head(0.2).equals(other.head(-0.2, "less"))


@pytest.mark.parametrize("control_weight", [0.0, 1.0])
@pytest.mark.parametrize("alternative", ["greater", "two-sided"])
@pytest.mark.parametrize(("n_references", "n_candidates"), [(K, 3), (200, 1)])
@pytest.mark.parametrize(("control_sd", "most"), [(0.3, 0.1), (100.0, 0.2)])  # what is left of its error, and all that is seen
def test_an_unlucky_control_mean_alone_makes_few_hits(
    control_sd, most, n_references, n_candidates, alternative, control_weight
):
    """Nothing has an effect. Six halves tell how large the control's error may be. Hits are judged against another one."""
    rng = np.random.default_rng(5)
    wrong, unsplit = [], []
    for _ in range(600):
        error, another = control_sd * rng.standard_normal(2)
        spread = control_sd * np.sqrt((rng.standard_normal(6) ** 2).mean())
        predicted, observed = rng.standard_normal((2, n_references)) - np.array([[control_weight * error], [error]])
        asked, measured = rng.standard_normal((2, n_candidates)) - np.array([[control_weight * error], [another]])
        is_beyond = (np.sign(asked) if alternative == "two-sided" else 1) * measured > 0
        for sd, into in ((spread, wrong), (0.0, unsplit)):
            projection = Projection(predicted, observed, np.full(n_references, sd), 6.0, control_weight)
            found = hits(projection.p_values(asked, 0.0, alternative)) <= 0.1
            into.append((found & ~is_beyond).sum() / max(found.sum(), 1))
    assert np.mean(wrong) <= most + 2 * np.std(wrong) / np.sqrt(len(wrong))
    if control_sd > 1 and (alternative == "greater" or control_weight):  # else predictions do not go where that error goes
        assert np.mean(unsplit) > 0.2


def test_what_is_not_a_number_is_not_predicted_far_out():
    rng = np.random.default_rng(16)
    predicted, observed = rng.standard_normal((2, K))
    p = simple(predicted, observed).p_values(np.array([np.nan, 3.0]))
    assert p[0] > 0.3
    assert p[1] == simple(predicted, observed).p_values(np.array([3.0]))[0]


@pytest.mark.parametrize("control_weight", [0.0, 1.0])
def test_intervals_allow_for_the_control_mean(control_weight):
    rng = np.random.default_rng(6)
    inside = []
    for _ in range(800):
        error, spread = rng.standard_normal(), np.sqrt((rng.standard_normal(6) ** 2).mean())
        truth = rng.standard_normal(K + 1)
        predicted = truth + 0.3 * rng.standard_normal(K + 1) - control_weight * error
        projection = Projection(predicted[:K], truth[:K] - error, np.full(K, spread), 6.0, control_weight)
        low, high = projection.interval(predicted[K:], 0.9)
        inside.append(low[0] <= truth[K] <= high[0])
    assert np.mean(inside) > 0.9 - 3 * np.sqrt(0.09 / len(inside))


def test_the_resolution_is_one_over_k_plus_one_and_tells_how_long_a_list_may_be():
    projection = simple(np.arange(48.0), np.arange(48.0))
    assert projection.p_values(np.array([1e6]))[0] == pytest.approx(projection.resolution) == pytest.approx(1 / 49)
    assert projection.hits_needed(900, 0.2) == 92
    assert projection.can_tell_apart(0.2) == 9
    for n, found in ((9, True), (10, False)):  # one strong candidate among weak ones
        p = projection.p_values(np.append(1e6, np.full(n - 1, -1e6)), 10.0)
        assert (hits(p).min() <= 0.2) == found
    assert "Name at most 9 candidates" in projection.said(900, 0.2, 0.5)[0]


def test_the_head_of_the_ranking_is_as_precise_as_its_references():
    rng = np.random.default_rng(7)
    truth = rng.standard_normal(200)
    exact, none = simple(truth, truth).head(1.0), simple(rng.standard_normal(200), truth).head(1.0)
    assert exact["precision"].iloc[0] == 1
    assert exact["chance"].iloc[0] == pytest.approx((truth > 1).mean())
    assert exact["n"].tolist() == [4, 10, 20, 40, 100]
    assert (np.abs(none["precision"] - none["chance"]) < 4 * none["se"]).all()


def test_a_predictor_that_tells_nothing_apart_makes_no_hits_unless_most_are_beyond():
    """All are predicted alike up to rounding, and every p-value is the share of references that are not beyond."""
    rng = np.random.default_rng(12)
    observed = rng.standard_normal((K, G)) + 0.3
    refs = References(observed, np.full((K, G), 0.1), np.zeros(G), {"none": np.zeros((K, G))})
    rules = left_out_rules(fit_rectifier(refs), refs)
    w = rng.standard_normal(G)
    projection = project(rules, w)
    p = projection.p_values(rules.along(w, {"none": np.zeros((T, G))}), 0.1)
    assert np.allclose(p, (1 + (observed @ w <= 0.1).sum()) / (K + 1))


def references(rng, n_references=25, own=()):
    truth = rng.standard_normal((n_references, G)) * np.linspace(0.2, 2, G)
    predicted = {"good": truth + rng.standard_normal(truth.shape), "bad": rng.standard_normal(truth.shape)}
    variance = np.full(truth.shape, 0.04)
    return References(truth + 0.2 * rng.standard_normal(truth.shape), variance, np.full(G, 0.01), predicted, own)


def test_projecting_is_linear_and_leaves_own_genes_out():
    rng = np.random.default_rng(8)
    own = tuple(np.array([i % G]) for i in range(25))
    refs = references(rng, own=own)
    rules = left_out_rules(fit_rectifier(refs), refs)
    one, two = rng.standard_normal((2, G))
    parts = [project(rules, w) for w in (one, two, one + 2 * two)]
    assert np.allclose(parts[0].observed + 2 * parts[1].observed, parts[2].observed)
    assert np.allclose(parts[0].predicted + 2 * parts[1].predicted, parts[2].predicted)
    huge = np.array(refs.effect)
    huge[np.arange(25), np.arange(25) % G] = 1e6
    spoiled = References(huge, refs.variance, refs.control_variance, refs.predicted, own)
    assert np.allclose(project(left_out_rules(rules.rectifier, spoiled), one).observed, parts[0].observed)


def test_a_mean_of_the_others_ranks_nobody():
    """Without a high reference the mean of the others is low; ranked by it, the first of a ranking would be the last."""
    rng = np.random.default_rng(11)
    refs = references(rng)
    for lam, shuffled in ((0.0, True), (1.0, False)):
        rectifier = fit_rectifier(refs, lam)
        projection = project(left_out_rules(rectifier, refs), np.ones(G))
        if shuffled:
            assert np.corrcoef(projection.predicted, projection.observed)[0, 1] < -0.99
            assert np.allclose(projection.ranks, projection.ranks[0])
            assert np.isfinite(projection.head()["precision"]).all()
        else:
            good = refs.predicted["good"] @ np.ones(G)
            assert np.allclose(projection.ranks - projection.ranks.mean(), good - good.mean())


def test_the_control_spread_is_that_of_the_control_mean_correlations_included():
    rng = np.random.default_rng(10)
    shared = rng.standard_normal((4000, 1)) + 0.1 * rng.standard_normal((4000, G))  # genes move together
    halves, direction = [], np.ones(G) / G
    for _ in range(6):
        side = rng.permutation(4000)[:2000]
        halves.append(shared.mean(axis=0) - shared[side].mean(axis=0))
    first = np.stack(halves)[:, None]
    sd, df = control_spread(ControlHalves(first, -first, np.ones((3, 1))), direction)
    assert df == 6
    low, high = np.sqrt(stats.chi2.ppf([0.001, 0.999], 6) / 6) / np.sqrt(4000)
    assert (low < sd).all()
    assert (sd < high).all()
    one = np.ones((3, G))
    estimate = observed_along(one, one, one, ControlHalves(first, -first, np.ones((3, 1))), direction)
    assert np.allclose(estimate.se, sd * np.sqrt(2))
    assert np.isnan(observed_along(one, one, one, None, direction).se).all()


@pytest.mark.parametrize(
    ("alternative", "threshold", "word"), [("up", 0.0, "up"), ("two-sided", -0.1, "-0.1"), ("greater", np.nan, "nan")]
)
def test_what_cannot_be_asked_is_refused_in_words(alternative, threshold, word):
    with pytest.raises(ValueError, match=word):
        check_alternative(alternative, threshold)
    with pytest.raises(ValueError, match=word):
        simple(np.zeros(K), np.zeros(K)).p_values(np.zeros(T), threshold, alternative)


def test_a_direction_of_another_length_is_refused():
    refs = references(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"\(23,\), got shape \(22,\)"):
        project(left_out_rules(fit_rectifier(refs), refs), np.ones(G - 1))
