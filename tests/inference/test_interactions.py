"""Laws of interactions: control counts once, sums are called no more often than they say, and what is planted is found."""

import numpy as np
import pytest

from dbdiffusion.inference import Estimate, adjust_p_values, interactions, unseen_along
from dbdiffusion.screen import ControlHalves

G, C = 120, 40
CONTROL_CELLS, CELLS = 400, 100


def screen(rng, gamma=0.0, planted=0.0, correlated=0.0, size=0.5, n_control=CONTROL_CELLS):
    """C pairs of 2C parts with cells whose genes are correlated; truth = (1 + gamma) times the sum, plus something planted."""
    factor = correlated * rng.standard_normal((5, G))

    def draw(cells, n):
        return (rng.standard_normal((n, 5)) @ factor + rng.standard_normal((n, G))) / np.sqrt(cells)

    truth = size * rng.standard_normal((2 * C, G)) * (rng.random((2 * C, G)) < 0.3)
    beyond = planted * rng.standard_normal((C, G)) * (rng.random((C, G)) < 0.1)
    pairs = (1 + gamma) * (truth[:C] + truth[C:]) + beyond
    whole = np.concatenate([truth, pairs])
    one = 1 + (factor**2).sum(axis=0)
    seen = whole + draw(CELLS, 3 * C) - draw(n_control, 1)
    first = draw(n_control, 6)[:, None]
    halves = ControlHalves(first, -first, np.ones((3 * C, 1)))
    shape = np.ones((3 * C, G))
    arguments = (seen, shape * one / CELLS, shape * one / n_control, shape * (CELLS - 1), n_control - 1.0)
    covariance = factor.T @ factor + np.eye(G)
    cv = np.sqrt(2 * (covariance**2).sum()) / np.trace(covariance)
    rows = [(2 * C + i, (i, C + i)) for i in range(C)]
    return arguments, rows, {"halves": halves, "control_norm_cv": cv}, beyond, truth


def test_the_control_mean_counts_once():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(300):
        arguments, rows, options, *_ = screen(rng, n_control=30, size=0.2)
        found = interactions(*arguments, rows[:1], **options)
        errors.append(found.genes.effect[0])
    assert np.mean(np.square(errors)) == pytest.approx(3 / CELLS + 1 / 30, rel=0.05)
    assert np.mean(found.genes.se**2) == pytest.approx(3 / CELLS + 1 / 30, rel=1e-6)


def test_batches_that_the_three_contrasts_weigh_alike_cancel_as_one_does():
    rng = np.random.default_rng(1)
    first = rng.standard_normal((6, 2, G)) * np.array([1.0, 3.0])[:, None]
    effect, one = rng.standard_normal((3, G)), np.ones((3, G))
    weights = {"alike": np.full((3, 2), 0.5), "apart": np.array([[1.0, 0], [1, 0], [0, 1]])}
    se = {}
    for name, weight in weights.items():
        halves = ControlHalves(first, -first, weight)
        se[name] = interactions(effect, 0 * one, one, 9 * one, 9.0, [(2, (0, 1))], halves).genes.se.mean()
    assert se["alike"] == pytest.approx(1)
    left = 4 * (first[:, 0] ** 2).sum() + (first[:, 1] ** 2).sum()  # twice the first batch, less the second
    assert se["apart"] ** 2 == pytest.approx(left / (first[:, 1] ** 2).sum())


@pytest.mark.parametrize("correlated", [0.0, 0.5])
def test_sums_are_called_no_more_often_than_they_say(correlated):
    rng = np.random.default_rng(2)
    genes, inside, anything, any_genes = [], [], [], []
    for _ in range(25):
        arguments, rows, options, *_ = screen(rng, correlated=correlated)
        found = interactions(*arguments, rows, **options)
        genes.append((found.genes.p_value() < 0.05).mean())
        any_genes.append((adjust_p_values(found.genes.p_value()) < 0.1).any(axis=1).mean())
        low, high = found.along.interval(0.9)
        inside.append(((low <= 0) & (high >= 0))[np.isfinite(low)].mean())
        anything.append((found.p_value < 0.05).mean())
    error = lambda values: 2.5 * np.std(values) / np.sqrt(len(values))  # noqa: E731
    assert np.mean(genes) == pytest.approx(0.05, abs=error(genes) + 0.005)
    assert np.mean(any_genes) <= 0.1 + error(any_genes) + 0.01
    assert np.mean(inside) >= 0.9 - error(inside) - 0.01
    assert np.mean(anything) <= 0.05 + error(anything) + 0.01


@pytest.mark.parametrize("correlated", [0.0, 0.4])
@pytest.mark.parametrize(("gamma", "planted"), [(0.0, 0.0), (0.0, 2.0), (-0.5, 1.0), (0.7, 1.0)])
def test_intervals_along_the_sum_hold_whatever_a_pair_does_across_it(gamma, planted, correlated):
    rng = np.random.default_rng(9)
    held = []
    for _ in range(40):
        arguments, rows, options, beyond, truth = screen(rng, gamma, planted, correlated, size=0.6)
        found = interactions(*arguments, rows, **options)
        sums = truth[:C] + truth[C:]
        true = gamma + (beyond * sums).sum(axis=1) / (sums**2).sum(axis=1)
        low, high = found.along.interval(0.9)
        held.append(((low <= true) & (true <= high))[np.isfinite(low)].mean())
    assert np.mean(held) == pytest.approx(0.9, abs=2.5 * np.std(held) / np.sqrt(len(held)) + 0.015)


@pytest.mark.parametrize("gamma", [-0.5, 0.0, 0.4])
def test_along_the_sum_the_share_is_found_without_bias(gamma):
    rng = np.random.default_rng(3)
    shares, kinds = [], []
    for _ in range(12):
        arguments, rows, options, *_ = screen(rng, gamma, correlated=0.3, size=0.5, n_control=100)
        found = interactions(*arguments, rows, **options)
        shares.append(np.nanmean(found.along.effect))  # one control mean, so one cluster
        kinds += found.kinds(0.95)
    assert np.mean(shares) == pytest.approx(gamma, abs=3 * np.std(shares) / np.sqrt(12))
    expected = {-0.5: "buffering", 0.0: "undecided", 0.4: "synergistic"}[gamma]
    if gamma:
        assert np.mean([kind == expected for kind in kinds]) > 0.5
        assert "additive" not in kinds
    else:
        assert np.mean([kind in ("buffering", "synergistic") for kind in kinds]) < 0.08


def test_what_is_planted_is_found():
    rng = np.random.default_rng(4)
    arguments, rows, options, beyond, _ = screen(rng, planted=1.5)
    found = interactions(*arguments, rows, **options)
    q = adjust_p_values(found.genes.p_value())
    large = np.abs(beyond) > 0.8
    assert (q[large] < 0.1).mean() > 0.9
    assert ((q < 0.1) & (beyond == 0)).sum() <= 0.15 * (q < 0.1).sum()
    assert (found.p_value < 0.05).mean() > 0.9
    assert np.corrcoef(found.size, np.linalg.norm(beyond, axis=1))[0, 1] > 0.9


def test_parts_that_do_nothing_have_no_direction():
    rng = np.random.default_rng(5)
    arguments, rows, options, *_ = screen(rng, size=0.0)
    found = interactions(*arguments, rows, **options)
    assert np.isnan(found.along.effect).mean() > 0.9
    assert set(np.array(found.kinds())[np.isnan(found.along.effect)]) == {"undecided"}


def test_own_genes_do_not_count_along_the_sum():
    rng = np.random.default_rng(6)
    arguments, rows, options, *_ = screen(rng)
    spoiled = np.array(arguments[0])
    spoiled[:, :2] += 50
    own = [np.array([0, 1])] * C
    found = [interactions(effect, *arguments[1:], rows, own_genes=own, **options) for effect in (arguments[0], spoiled)]
    assert np.allclose(found[0].along.effect, found[1].along.effect, equal_nan=True)
    assert np.allclose(found[0].p_value, found[1].p_value)


def test_a_single_cell_gives_no_interval():
    rng = np.random.default_rng(7)
    (effect, variance, control, df, control_df), rows, options, *_ = screen(rng)
    df = np.array(df)
    df[0] = 0
    found = interactions(effect, variance, control, df, control_df, rows, **options)
    assert np.isnan(found.genes.se[0]).all()
    assert np.isfinite(found.genes.se[1:]).all()


def test_unseen_pairs_lie_where_measured_ones_do():
    rng = np.random.default_rng(8)
    inside = []
    for _ in range(400):
        gammas = 0.3 * rng.standard_t(3, 31) - 0.2
        _, low, high, _ = unseen_along(gammas[:30], 1, 0.9)
        inside.append(low[0] <= gammas[30] <= high[0])
    assert np.mean(inside) == pytest.approx(0.9, abs=3 * np.sqrt(0.09 / 400))


def test_too_few_pairs_say_so():
    estimate, low, high, words = unseen_along(np.array([np.nan, 0.1, 0.2]), 3)
    assert isinstance(estimate, Estimate)
    assert np.isnan([estimate.effect, low, high]).all()
    assert "Only 2 measured pairs" in words
    _, low, high, words = unseen_along(np.linspace(0, 1, 12), 2)
    assert np.isinf(low).all()
    assert "needs 19 references, and there are 12" in words
