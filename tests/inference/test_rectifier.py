from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dbdiffusion.inference import MIN_REFERENCES, References, fit_rectifier
from dbdiffusion.inference._rectifier import MIN_REFERENCES_FOR_SHAPE

K, G, T = 20, 31, 4


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def make_references(rng, k=K, g=G, noise=0.04, control=0.01, error=0.5):
    """A predictor with independent errors, and effects seen through their own and the shared control's noise."""
    truth = rng.standard_normal((k, g)) + 0.5 * rng.standard_normal(g)
    seen = truth + np.sqrt(noise) * rng.standard_normal((k, g)) - np.sqrt(control) * rng.standard_normal(g)
    predicted = {"model": truth + error * rng.standard_normal((k, g))}
    return References(seen, np.full((k, g), noise), np.full(g, control), predicted), truth


def outcome(rectifier, predicted, **options):
    estimate = rectifier.estimate(predicted, **options)
    return estimate.effect, estimate.se, estimate.df


def test_no_weight_and_a_full_mean_is_the_mean_of_the_references(rng):
    references, _ = make_references(rng)
    effect = fit_rectifier(references, lam=0, rho=1).estimate({"model": rng.standard_normal((T, G))}).effect
    np.testing.assert_allclose(effect, np.tile(references.effect.mean(axis=0), (T, 1)))


def test_both_one_is_plain_prediction_powered_inference(rng):
    references, _ = make_references(rng)
    target = rng.standard_normal((T, G))
    effect = fit_rectifier(references, lam=1, rho=1).estimate({"model": target}).effect
    np.testing.assert_allclose(effect, target + (references.effect - references.predicted["model"]).mean(axis=0))


def test_both_zero_says_no_effect(rng):
    references, _ = make_references(rng)
    estimate = fit_rectifier(references, lam=0, rho=0).estimate({"model": rng.standard_normal((T, G))})
    assert not estimate.effect.any()
    assert (estimate.se > 0).all()


def test_no_predictor_at_all_leaves_the_mean(rng):
    references, _ = make_references(rng)
    rectifier = fit_rectifier(replace(references, predicted={}), rho=1)
    np.testing.assert_allclose(rectifier.estimate({}).effect, references.effect.mean(axis=0))
    assert rectifier.weights == {}


def test_estimate_is_its_formula(rng):
    references, truth = make_references(rng)
    references.predicted["other"] = truth + rng.standard_normal((K, G))
    rectifier = fit_rectifier(references)
    target = {"other": rng.standard_normal((T, G)), "model": rng.standard_normal((T, G))}
    weighted = lambda p: sum(w * p[name] for name, w in rectifier.weights.items())  # noqa: E731
    residual = references.effect - weighted(references.predicted)
    expected = weighted(target) + rectifier.rho * residual.mean(axis=0)
    np.testing.assert_allclose(rectifier.estimate(target).effect, expected)
    assert min(rectifier.weights.values()) > 0.01


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_an_exact_predictor_gets_all_the_weight(rng, scale):
    truth = rng.standard_normal((K, G))
    references = References(truth, np.zeros((K, G)), np.zeros(G), {"exact": truth / scale})
    rectifier = fit_rectifier(references)
    target = rng.standard_normal((T, G))
    np.testing.assert_allclose(rectifier.weights["exact"], scale, rtol=1e-3)
    assert rectifier.tau.max() < 1e-3
    np.testing.assert_allclose(rectifier.estimate({"exact": target / scale}).effect, target, atol=0.01)


def test_the_interval_of_an_exact_predictor_shrinks_with_the_noise_to_nothing():
    widths = []
    for noise in (0.3, 0.03, 0.003):
        rng = np.random.default_rng(7)
        truth = rng.standard_normal((K, G))
        seen = truth + noise * rng.standard_normal((K, G))
        references = References(seen, np.full((K, G), noise**2), np.zeros(G), {"exact": truth})
        low, high = fit_rectifier(references).estimate({"exact": truth}).interval()
        widths.append((high - low).mean())
    assert widths[0] > 2 * widths[1] > 2 * widths[2] > 0
    assert widths[2] < 0.01


def test_a_biased_predictor_is_rectified(rng):
    truth, bias = rng.standard_normal((K + T, G)), 3 * rng.standard_normal(G)
    references = References(truth[T:], np.zeros((K, G)), np.zeros(G), {"biased": truth[T:] + bias})
    effect = fit_rectifier(references).estimate({"biased": truth[:T] + bias}).effect
    np.testing.assert_allclose(effect, truth[:T], atol=0.02)


def test_a_useless_predictor_gets_no_weight(rng):
    references, _ = make_references(rng)
    useless = replace(references, predicted={"noise": rng.standard_normal((K, G))})
    rectifier = fit_rectifier(useless)
    assert rectifier.weights["noise"] < 0.06
    both = fit_rectifier(replace(references, predicted={**references.predicted, **useless.predicted}))
    assert both.weights["noise"] < 0.06
    assert both.weights["model"] > 0.5


def test_a_harmful_predictor_gets_no_weight(rng):
    references, _ = make_references(rng)
    harmful = replace(references, predicted={"harmful": -references.predicted["model"]})
    assert fit_rectifier(harmful).weights == {"harmful": 0.0}


def test_equal_predictors_share(rng):
    references, _ = make_references(rng)
    model = references.predicted["model"]
    alone = fit_rectifier(references)
    twice = fit_rectifier(replace(references, predicted={"a": model, "b": model.copy()}))
    np.testing.assert_allclose(twice.weights["a"] + twice.weights["b"], alone.weights["model"], rtol=1e-3)
    np.testing.assert_allclose(twice.weights["a"], twice.weights["b"], rtol=0.05)


def test_weight_falls_as_predictions_get_worse(rng):
    weights = []
    for error in (0.1, 0.5, 1.0, 2.0, 5.0):
        references, _ = make_references(np.random.default_rng(1), error=error)
        weights.append(fit_rectifier(references).weights["model"])
    assert (np.diff(weights) < 0).all()
    assert weights[0] > 0.9
    assert weights[-1] < 0.15


def test_pure_noise_is_shrunk_to_nothing(rng):
    rhos, ratios = [], []
    for _ in range(20):
        noise = 0.3 * rng.standard_normal((K + T, G))
        references = References(noise[T:], np.full((K, G), 0.09), np.zeros(G), {"model": rng.standard_normal((K, G))})
        rectifier = fit_rectifier(references)
        effect = rectifier.estimate({"model": rng.standard_normal((T, G))}).effect
        rhos.append(rectifier.rho)
        ratios.append(((noise[:T] - effect) ** 2).sum() / (noise[:T] ** 2).sum())
    assert np.mean(rhos) < 0.3
    assert np.mean(ratios) < 1.02


def test_the_shared_error_of_control_is_not_taken_for_an_effect(rng):
    shared = 0.5 * rng.standard_normal(G)
    seen = shared + 0.1 * rng.standard_normal((K, G))
    told = References(seen, np.full((K, G), 0.01), np.full(G, 0.25), {"model": rng.standard_normal((K, G))})
    untold = replace(told, control_variance=np.zeros(G))
    assert fit_rectifier(told).rho < 0.3
    assert fit_rectifier(untold).rho > 0.9


def test_what_the_controls_chance_may_explain_is_not_taken_for_an_effect():
    genes, norm_cv = 200, 0.3  # an error of correlated genes, a little larger than expected
    rng, control = np.random.default_rng(1), np.full(genes, 0.05)
    shared = rng.standard_normal(genes)
    shared *= np.sqrt(1.2 * control.sum()) / np.linalg.norm(shared)
    seen = shared + 0.1 * rng.standard_normal((K, genes))
    references = References(seen, np.full(seen.shape, 0.01), control, {"useless": np.zeros_like(seen)})
    assert fit_rectifier(references).rho > 0
    assert fit_rectifier(replace(references, control_norm_cv=norm_cv)).rho == 0
    large = replace(references, effect=seen + shared, control_norm_cv=norm_cv)
    assert fit_rectifier(large).rho > 0


def test_the_controls_chance_does_not_move_what_is_fixed(rng):
    references, _ = make_references(rng)
    predicted = {"model": rng.standard_normal((T, G))}
    fixed, doubted = (fit_rectifier(replace(references, control_norm_cv=cv), lam=0.5, rho=0.5) for cv in (0.0, 0.3))
    np.testing.assert_array_equal(fixed.estimate(predicted).effect, doubted.estimate(predicted).effect)


def test_a_shared_effect_is_kept(rng):
    shared = rng.standard_normal(G)
    seen = shared + 0.3 * rng.standard_normal((K, G))
    references = References(seen, np.full((K, G), 0.01), np.full(G, 0.001), {"model": rng.standard_normal((K, G))})
    rectifier = fit_rectifier(references)
    assert rectifier.rho > 0.9
    effect = rectifier.estimate({"model": np.zeros((1, G))}).effect[0]
    assert ((effect - shared) ** 2).mean() < 0.05 * (shared**2).mean()


def test_permuting_genes_permutes_the_answer(rng):
    references, _ = make_references(rng)
    references = replace(references, own_genes=tuple(np.array([i]) for i in range(K)))
    target, order = rng.standard_normal((T, G)), rng.permutation(G)
    inverse = np.argsort(order)
    permuted = References(
        references.effect[:, order],
        references.variance[:, order],
        references.control_variance[order],
        {"model": references.predicted["model"][:, order]},
        tuple(inverse[genes] for genes in references.own_genes),
    )
    first = outcome(fit_rectifier(references), {"model": target})
    second = outcome(fit_rectifier(permuted), {"model": target[:, order]})
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(other, one[:, order], rtol=2e-2)


@pytest.mark.parametrize("sharing", [False, True])
def test_order_of_the_references_does_not_matter(rng, sharing):
    references, _ = make_references(rng)
    own = tuple(np.array([i, K + i % 5] if sharing else [i]) for i in range(K))
    references = replace(references, own_genes=own)
    target, order = rng.standard_normal((T, G)), rng.permutation(K)
    permuted = References(
        references.effect[order],
        references.variance[order],
        references.control_variance,
        {"model": references.predicted["model"][order]},
        tuple(own[i] for i in order),
    )
    first, second = (outcome(fit_rectifier(r), {"model": target}) for r in (references, permuted))
    for one, other in zip(first, second, strict=True):  # the likelihood of the error law looks at some of the errors
        np.testing.assert_allclose(other, one, rtol=1e-4)


def test_scale_is_equivariant(rng):
    references, _ = make_references(rng)
    target = rng.standard_normal((T, G))
    larger = References(
        8 * references.effect,
        64 * references.variance,
        64 * references.control_variance,
        {"model": 8 * references.predicted["model"]},
    )
    first = outcome(fit_rectifier(references), {"model": target})
    second = outcome(fit_rectifier(larger), {"model": 8 * target})
    np.testing.assert_allclose(second[0], 8 * first[0], rtol=1e-6)
    np.testing.assert_allclose(second[1], 8 * first[1], rtol=2e-2)


@pytest.mark.parametrize("sharing", [False, True])
def test_own_genes_do_not_influence(rng, sharing):
    references, _ = make_references(rng)
    own = tuple(np.array([i, K + i % 5] if sharing else [i]) for i in range(K))
    references = replace(references, own_genes=own)
    wild = replace(references, effect=references.effect.copy(), predicted={"model": references.predicted["model"].copy()})
    for i, genes in enumerate(own):
        wild.effect[i, genes] = -99.0
        wild.predicted["model"][i, genes] = 77.0
    target = {"model": rng.standard_normal((T, G))}
    tame_outcome, wild_outcome = (outcome(fit_rectifier(r), target) for r in (references, wild))
    for one, other in zip(tame_outcome, wild_outcome, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6)


def test_the_input_is_left_alone(rng):
    references, _ = make_references(rng)
    references = replace(references, own_genes=tuple(np.array([i]) for i in range(K)))
    before = references.effect.copy(), references.predicted["model"].copy()
    fit_rectifier(references)
    assert np.array_equal(references.effect, before[0])
    assert np.array_equal(references.predicted["model"], before[1])


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("k", [1, 2, 3, 9, 10])
def test_few_references_give_an_estimate_and_from_three_on_an_interval(rng, k):
    references, _ = make_references(rng, k=k)
    for options in ({}, {"lam": 1.0, "rho": 1.0}):
        estimate = fit_rectifier(references, **options).estimate({"model": rng.standard_normal((T, G))})
        assert np.isfinite(estimate.effect).all()
        assert np.isfinite(estimate.se).all() == (k >= MIN_REFERENCES)
        assert np.isnan(estimate.se).all() == (k < MIN_REFERENCES)


def test_the_mean_is_known_better_than_a_new_member(rng):
    references, _ = make_references(rng)
    rectifier, target = fit_rectifier(references), {"model": rng.standard_normal((T, G))}
    mean, prediction = (rectifier.estimate(target, interval=kind) for kind in ("mean", "prediction"))
    assert np.array_equal(mean.effect, prediction.effect)
    assert (mean.se < 0.6 * prediction.se).all()


def test_monte_carlo_noise_is_added_as_normal_noise(rng):
    references, _ = make_references(rng)
    rectifier, target = fit_rectifier(references), {"model": rng.standard_normal((T, G))}
    noise = rng.uniform(0, 1, (T, G))
    for kind in ("mean", "prediction"):
        plain, noisy = (rectifier.estimate(target, noise=n, interval=kind) for n in (0.0, noise))
        half, wider = ((e.interval(0.8)[1] - e.effect) for e in (plain, noisy))
        of_noise = stats.norm.ppf(0.9) * np.sqrt(noise)
        assert (wider > np.maximum(half, of_noise)).all()
        assert (wider < half + of_noise).all()


def test_left_out_errors_are_those_of_a_fit_without_the_reference(rng):
    references, _ = make_references(rng)
    rectifier = fit_rectifier(references, lam=0.7, rho=0.6)
    model = references.predicted["model"]
    for i in (0, 7, K - 1):
        kept = np.arange(K) != i
        others = References(
            references.effect[kept], references.variance[kept], references.control_variance, {"model": model[kept]}
        )
        expected = fit_rectifier(others, lam=0.7, rho=0.6).estimate({"model": model[[i]]}).effect[0]
        np.testing.assert_allclose(rectifier.loo_predicted[i], expected)
        np.testing.assert_allclose(rectifier.loo_error[i], references.effect[i] - expected)


def test_tuning_beats_every_fixed_choice_on_average(rng):
    errors = {"tuned": 0.0, "mean": 0.0, "plain": 0.0, "zero": 0.0}
    choices = {"tuned": {}, "mean": {"lam": 0, "rho": 1}, "plain": {"lam": 1, "rho": 1}, "zero": {"lam": 0, "rho": 0}}
    for _ in range(12):
        references, truth = make_references(rng, k=K + T, error=1.2, noise=0.5, control=0.2)
        fitted = References(
            references.effect[T:],
            references.variance[T:],
            references.control_variance,
            {"model": references.predicted["model"][T:]},
        )
        for name, options in choices.items():
            effect = fit_rectifier(fitted, **options).estimate({"model": references.predicted["model"][:T]}).effect
            errors[name] += ((effect - truth[:T]) ** 2).mean()
    assert errors["tuned"] == min(errors.values())


def test_intervals_cover_new_perturbations():
    rng = np.random.default_rng(1)
    g, covered = 11, []
    tau = np.exp(0.4 * rng.standard_normal(g))
    for _ in range(50):
        common, e_0 = rng.standard_normal(g), 0.2 * rng.standard_normal(g)
        signal = rng.standard_normal((K + T, g))
        truth = common + signal + tau * rng.standard_t(6, (K + T, g))
        seen = truth[T:] + 0.4 * rng.standard_normal((K, g)) - e_0
        references = References(seen, np.full((K, g), 0.16), np.full(g, 0.04), {"model": signal[T:]})
        low, high = fit_rectifier(references).estimate({"model": signal[:T]}).interval(0.95)
        covered.append(((low < truth[:T]) & (truth[:T] < high)).mean())
    assert 0.92 < np.mean(covered) < 0.98


def test_intervals_are_shorter_where_the_predictor_is_good(rng):
    width = {}
    for error in (0.2, 3.0):
        references, _ = make_references(np.random.default_rng(2), error=error)
        width[error] = fit_rectifier(references).estimate({"model": np.zeros((1, G))}).se.mean()
    assert width[0.2] < 0.5 * width[3.0]


def test_another_interval_is_refused(rng):
    references, _ = make_references(rng)
    with pytest.raises(ValueError, match=r"interval.*'confidence'"):
        fit_rectifier(references).estimate({"model": np.zeros((1, G))}, interval="confidence")


def test_intervals_cover_where_errors_have_heavy_tails_and_the_controls_noise_has_not():
    k, t, g, df = 100, 60, 200, 2.5
    covered = {0.8: [], 0.95: []}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        predicted, e_0 = 2 * rng.standard_normal((k + t, g)), rng.standard_normal(g)
        scale = 0.7 * np.sqrt(df / rng.chisquare(df, (k + t, 1)))  # of a perturbation: a few are far off in all genes
        truth = predicted + scale * rng.standard_normal((k + t, g))
        seen = truth[:k] + rng.standard_normal((k, g)) - e_0
        rectifier = fit_rectifier(References(seen, np.ones((k, g)), np.ones(g), {"model": predicted[:k] - e_0}))
        estimate = rectifier.estimate({"model": predicted[k:] - e_0})
        for level, shares in covered.items():
            low, high = estimate.interval(level)
            shares.append(((low < truth[k:]) & (truth[k:] < high)).mean())
    assert abs(np.mean(covered[0.8]) - 0.8) < 0.02  # 83.5 % with all of it under one t
    assert abs(np.mean(covered[0.95]) - 0.95) < 0.012  # 97.3 %


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0.94, 0.955), (0.5, 0.95, 0.975), (1.0, 0.955, 0.98)])
def test_intervals_hold_where_the_predictor_is_free_of_the_controls_error_and_careful_ones_are_wider(share, least, most):
    k, t, g, size = 60, 40, 150, 0.5  # of the control's error, against errors of unit variance
    covered = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        predicted, e_0 = 2 * rng.standard_normal((k + t, g)), size * rng.standard_normal(g)
        truth = predicted + rng.standard_normal((k + t, g))
        seen = truth[:k] + 0.5 * rng.standard_normal((k, g)) - e_0
        references = References(
            seen, np.full((k, g), 0.25), np.full(g, size**2), {"model": predicted[:k]}, control_share={"model": share}
        )
        low, high = fit_rectifier(references).estimate({"model": predicted[k:]}).interval(0.95)
        covered.append(((low < truth[k:]) & (truth[k:] < high)).mean())
    assert least < np.mean(covered) < most, np.mean(covered)


def some_unplaced(rng, n_placed, k=40, g=100, error=0.4):
    """References of which some are placed by a predictor, and the others predicted by the mean; and as many placed targets."""
    truth = rng.standard_normal((2 * k, g)) + rng.standard_normal(g)
    seen = truth[:k] + 0.2 * rng.standard_normal((k, g))
    predicted = truth + error * rng.standard_normal((2 * k, g))
    placed = np.arange(k) < n_placed
    of_references = np.where(placed[:, None], predicted[:k], (seen.sum(axis=0) - seen) / (k - 1))
    references = References(seen, np.full((k, g), 0.04), np.zeros(g), {"model": of_references}, placed=placed)
    return references, truth[k:], predicted[k:]


def test_references_that_nothing_places_inform_the_mean(rng):
    references, _, _ = some_unplaced(rng, 15)
    rectifier = fit_rectifier(references, lam=0, rho=1)
    assert rectifier.n_reference == 40
    np.testing.assert_allclose(rectifier.estimate({"model": np.zeros((1, 100))}).effect[0], references.effect.mean(axis=0))


@pytest.mark.parametrize("n_placed", [MIN_REFERENCES_FOR_SHAPE, 25, 40])
def test_where_predictors_count_the_placed_ones_tell_the_spread(rng, n_placed):
    references, _, _ = some_unplaced(rng, n_placed)
    rectifier = fit_rectifier(references)
    assert rectifier.weights["model"] > 0
    np.testing.assert_array_equal(rectifier.spread_from, references.placed)
    everyone = fit_rectifier(replace(references, placed=None))
    np.testing.assert_array_equal(everyone.spread_from, np.ones(40, dtype=bool))
    assert rectifier.weights == everyone.weights
    assert rectifier.rho == everyone.rho
    if n_placed < 40:
        assert rectifier.tau.mean() < 0.8 * everyone.tau.mean()


def test_few_placed_ones_or_predictors_that_do_not_count_leave_the_spread_to_everyone(rng):
    few, _, _ = some_unplaced(rng, MIN_REFERENCES_FOR_SHAPE - 1)
    useless = replace(some_unplaced(rng, 20)[0], predicted={"model": rng.standard_normal((40, 100))})
    for rectifier in (
        fit_rectifier(few),
        fit_rectifier(useless, lam=0),
        fit_rectifier(replace(few, placed=np.zeros(40, bool))),
    ):
        assert rectifier.spread_from.all()
        assert np.isfinite(rectifier.tau).all()


def test_what_unplaced_references_lie_off_does_not_widen_intervals_of_placed_targets():
    covered = []
    for seed in range(15):
        references, truth, predicted = some_unplaced(np.random.default_rng(seed), 20)
        low, high = fit_rectifier(references).estimate({"model": predicted}).interval(0.95)
        covered.append(((low < truth) & (truth < high)).mean())
    assert 0.93 < np.mean(covered) < 0.97


def test_a_wild_unplaced_reference_changes_no_spread(rng):
    references, _, _ = some_unplaced(rng, 20)
    wild = replace(references, effect=references.effect.copy())
    wild.effect[-1] += 20 * rng.standard_normal(100)
    tame, spoiled = (fit_rectifier(one, lam=1.0, rho=0.0) for one in (references, wild))
    np.testing.assert_allclose(spoiled.tau, tame.tau)
    np.testing.assert_allclose(spoiled.loo_between[:20], tame.loo_between[:20])


def test_without_any_placed_reference_the_answer_is_that_of_the_mean(rng):
    references, truth, _ = some_unplaced(rng, 0)
    rectifier = fit_rectifier(references)
    of_targets = np.tile(references.effect.mean(axis=0), (40, 1))
    low, high = rectifier.estimate({"model": of_targets}).interval(0.95)
    assert 0.9 < ((low < truth) & (truth < high)).mean() < 0.99
    effect = rectifier.estimate({"model": of_targets}).effect
    mean_error, zero_error = (((values - truth) ** 2).mean() for values in (of_targets, 0))
    assert ((effect - truth) ** 2).mean() < 1.02 * min(mean_error, zero_error)
