from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny import screen_of_effects

from dbdiffusion.embedding import LeftOutSpaces, fit_effect_space, one_gene_space
from dbdiffusion.inference import References, placebo_evidence
from dbdiffusion.screen import GeneSpace, LeftOut, SpaceWithout, perturbation_folds, spaces_needed

G, R, E = 70, 4, 5
GENES = [f"G{i:02d}" for i in range(G)]
STRATEGIES = ("ridge", "knn", "cluster", "mean", "table", "table_knn")


def simulated(*, aligned=True, n_singles=40, n_pairs=0, seed=0, noise=0.3):
    """A screen with folds, whose gene space is given and the same for all of them; effects of pairs add up."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((G, R))
    source = vectors if aligned else rng.standard_normal((G, R))
    members = [(i,) for i in range(n_singles)]
    while len(members) < n_singles + n_pairs:
        pair = tuple(sorted(rng.choice(n_singles, 2, replace=False)))
        members += [pair] if pair not in members else []
    names = ["+".join(GENES[i] for i in own) for own in members]
    signal = np.stack([source[list(own)].sum(axis=0) for own in members]) @ rng.standard_normal((R, G))
    effect = signal + noise * rng.standard_normal((len(names), G))
    return with_folds(screen_of_effects(names, effect, GeneSpace(pd.Index(GENES), vectors)))


def with_folds(screen):
    parts = {name: tuple(name.split("+")) for name in screen.names}
    folds = perturbation_folds(parts, 5)
    excluded, inner = spaces_needed(folds, parts)
    spaces = tuple(SpaceWithout(names, screen.vectors, np.full(G, 0.012)) for names in excluded)
    return replace(screen, left_out=LeftOut(folds, spaces, inner))


def spaces_of(screen, **options):
    return LeftOutSpaces(screen, E, screen.left_out, **options)


def predictions(spaces, *strategies):
    """What every fold's space says of its own (K, G)."""
    predicted = np.full(spaces.screen.observed.effect.shape, np.nan)
    for space, rows in spaces.folds():
        space = space.with_ranking(strategies) if strategies else space
        predicted[rows] = space.predict_effect([spaces.screen.names[row] for row in rows])
    return predicted


def changed(screen, rows):
    """The screen with the effects of some rows quite different."""
    effect = screen.observed.effect.copy()
    effect[rows] += 9 * np.random.default_rng(9).standard_normal((len(rows), G))
    return replace(screen, observed=replace(screen.observed, effect=effect))


@pytest.mark.parametrize("n_pairs", [0, 25])
def test_every_perturbation_is_placed_once_by_a_space_that_does_not_hold_it(n_pairs):
    screen = simulated(n_pairs=n_pairs)
    placed = []
    for space, rows in spaces_of(screen).folds():
        for row in rows:
            name = screen.names[row]
            assert not space.is_measured(name)
            assert len(space.parts(name)) > 1 or not any(name in space.parts(other) for other in space.names)
        placed += rows
    assert sorted(placed) == list(range(len(screen.names)))


def test_the_effect_of_a_perturbation_has_no_part_in_its_own_prediction_bit_for_bit():
    screen = simulated(n_pairs=25)
    table = pd.DataFrame(np.random.default_rng(1).standard_normal((G, 3)), index=GENES)
    whole = spaces_of(screen, user_vectors=table)
    clean = {strategy: predictions(whole, *strategy) for strategy in [(), *zip(STRATEGIES)]}
    for row in (3, 39, 50):  # two single ones, one pair
        spoiled = spaces_of(changed(screen, [row]), user_vectors=table)
        for strategy, expected in clean.items():
            found = predictions(spoiled, *strategy)
            assert np.array_equal(found[row], expected[row]), (screen.names[row], strategy)
            assert not np.array_equal(found, expected)


def test_the_effects_of_pairs_have_no_part_in_the_predictions_of_their_parts():
    screen = simulated(n_pairs=25)
    clean = predictions(spaces_of(screen))
    pair = next(row for row, name in enumerate(screen.names) if "+" in name)
    own = [screen.names.index(part) for part in screen.names[pair].split("+")]
    spoiled = predictions(spaces_of(changed(screen, [pair])))
    assert np.array_equal(spoiled[own], clean[own])
    assert not np.array_equal(np.delete(spoiled, own, axis=0), np.delete(clean, own, axis=0))


def test_a_left_out_pair_is_the_sum_of_its_measured_parts():
    screen = simulated(n_pairs=25)
    predicted = predictions(spaces_of(screen))
    together = np.array(["+" in name for name in screen.names])
    of = dict(zip(screen.names, screen.observed.effect, strict=True))
    expected = [sum(of[part] for part in screen.names[row].split("+")) for row in np.flatnonzero(together)]
    off = ((predicted[together] - expected) ** 2).sum() / np.square(expected).sum()
    assert off < 0.05  # what principal components do not hold


def test_strategies_of_a_fold_are_ranked_without_it():
    screen = simulated(n_pairs=25)
    spaces, folds = spaces_of(screen), screen.left_out.folds
    for i, fold in enumerate(folds):
        if not screen.left_out.inner[i]:
            continue
        rows = [screen.names.index(name) for name in fold.excluded]
        other = spaces_of(changed(screen, rows))
        pd.testing.assert_frame_equal(other.scores(i), spaces.scores(i), check_exact=True)
        assert other.ranking(i) == spaces.ranking(i)
        assert not other.scores().equals(spaces.scores())


def test_a_strategy_that_the_user_chose_is_the_only_one():
    spaces = spaces_of(simulated(n_singles=12), strategy="knn")
    assert spaces.ranking() == spaces.ranking(3) == ("knn",)
    assert all(space.ranking == ("knn",) for space, _ in spaces.folds())
    assert all(space.places_anything for space, _ in spaces_of(simulated(n_singles=12), strategy="mean").folds())


def test_there_is_always_a_fallback():
    screen = simulated(n_singles=12)
    for one in (screen, screen_of_effects(screen.names[:2], screen.observed.effect[:2], screen.genes)):
        left_out = one.left_out or one_gene_space(one.names, one.observed, one.vectors)
        assert "mean" in LeftOutSpaces(one, E, left_out).ranking()


def test_axes_may_be_those_of_more_effects_than_the_screens():
    screen = simulated()
    others = replace(screen, observed=replace(screen.observed, effect=screen.observed.effect[:, ::-1]))
    joint = ((*screen.names, *others.names), np.concatenate([screen.observed.effect, others.observed.effect]))
    spaces = spaces_of(screen, joint=joint)
    for i, fold in enumerate(screen.left_out.folds):
        kept = [name not in fold.excluded for name in joint[0]]
        expected = fit_effect_space(joint[1][kept], screen.left_out.spaces[i].noise, E)
        np.testing.assert_array_equal(spaces.space(i, ("ridge",)).effects.components, expected.components)


@pytest.mark.parametrize(("n_pairs", "common"), [(0, 0.0), (60, 0.0), (60, 3.0)])
@pytest.mark.parametrize("seed", range(3))
def test_useless_vectors_are_said_to_be_useless(n_pairs, common, seed):
    screen, rng = simulated(aligned=False, n_pairs=n_pairs, seed=seed), np.random.default_rng(seed)
    n_parts = np.array([len(name.split("+")) for name in screen.names])
    effect = screen.observed.effect + common * n_parts[:, None] * rng.standard_normal(G)
    screen = replace(screen, observed=replace(screen.observed, effect=effect), vectors=screen.vectors + 1)
    table = pd.DataFrame(1 + rng.standard_normal((G, 3)), index=GENES)
    scores = spaces_of(with_folds(screen), user_vectors=table).scores()
    assert set(scores.index) == set(STRATEGIES)
    assert (scores["n"] == 40).all()
    assert (scores["relative_to_mean"] >= 1 - 2 * scores["se"]).all(), scores


def test_a_single_that_stayed_through_its_pairs_would_flatter_them():
    screen = simulated(aligned=False, n_pairs=120, noise=0.05)
    wide = with_folds(replace(screen, vectors=np.eye(G)))  # vectors that tell genes apart and nothing else
    scores = spaces_of(wide).scores()
    stayed = LeftOutSpaces(wide, E, one_gene_space(wide.names, wide.observed, wide.vectors)).scores()
    assert stayed.loc["ridge", "relative_to_mean"] < 0.8
    zero = np.mean([np.mean(np.delete(effect, i) ** 2) for i, effect in enumerate(wide.observed.effect[:40])])
    least = min(1.0, zero / scores.loc["mean", "mse"])  # pairs tell that a part has no effect in common with others
    assert (scores["relative_to_mean"] >= least - 2 * scores["se"]).all(), scores


def test_useful_vectors_are_said_to_be_useful():
    for n_pairs in (0, 60):
        assert spaces_of(simulated(n_pairs=n_pairs)).scores().loc["ridge", "relative_to_mean"] < 0.3


def test_a_placebo_only_permutes():
    screen = simulated(n_pairs=25)
    table = pd.DataFrame(np.random.default_rng(1).standard_normal((G + 1, 3)), index=[*GENES, "DRUG"])
    spaces = spaces_of(screen, user_vectors=table)
    before = predictions(spaces)
    placebo, again, another = spaces.permuted(3), spaces_of(screen, user_vectors=table).permuted(3), spaces.permuted(4)
    singles = [name for name in screen.names if "+" not in name]
    columns = [GENES.index(name) for name in singles]
    unmeasured = [i for i in range(G) if i not in columns]
    for i in range(len(screen.left_out.folds)):
        own, dealt, same, other = (one.space(i, ("ridge",)).genes.vectors for one in (spaces, placebo, again, another))
        np.testing.assert_array_equal(own, screen.left_out.spaces[i].vectors)
        np.testing.assert_array_equal(dealt, same)
        assert not np.array_equal(dealt, other)
        np.testing.assert_array_equal(dealt[unmeasured], own[unmeasured])
        np.testing.assert_array_equal(np.sort(dealt[columns], axis=0), np.sort(own[columns], axis=0))
        assert {tuple(row) for row in dealt[columns]} == {tuple(row) for row in own[columns]}
    pd.testing.assert_frame_equal(placebo.user_vectors, again.user_vectors)
    rest = [name for name in table.index if name not in singles]
    pd.testing.assert_frame_equal(placebo.user_vectors.loc[rest], table.loc[rest])
    assert {tuple(row) for row in placebo.user_vectors.to_numpy()} == {tuple(row) for row in table.to_numpy()}
    for i in range(len(screen.left_out.folds)):
        assert placebo.ranking(i) == spaces.ranking(i)
        assert placebo.space(i, ("ridge",)).effects is spaces.space(i, ("ridge",)).effects
    assert np.array_equal(predictions(spaces), before)
    assert not np.allclose(predictions(placebo), before)
    assert np.array_equal(predictions(placebo), predictions(again))


def test_under_the_placebo_a_gene_space_that_tells_much_tells_nothing():
    screen = simulated()
    spaces, effect = spaces_of(screen), screen.observed.effect
    assert spaces.scores().loc["ridge", "relative_to_mean"] < 0.3
    ratios, weights, outcomes = [], [], {"prediction": 0.0, "mean": 0.0, "zero": 0.0}
    for seed in range(20):
        placebo = spaces.permuted(seed)
        ratios.append(placebo.scores().loc["ridge", "relative_to_mean"])
        predicted = {strategy: predictions(placebo, strategy) for strategy in ("ridge", "knn")}
        nothing = References(effect, np.full(effect.shape, 0.09), np.zeros(G), predicted)
        weight, evidence = placebo_evidence(nothing)
        weights.append(weight)
        for name in outcomes:
            outcomes[name] += getattr(evidence, name).sum()
    assert np.mean(ratios) > 1
    assert np.mean(weights) < 0.05
    assert outcomes["prediction"] < 1.02 * min(outcomes["mean"], outcomes["zero"])


@pytest.mark.parametrize(("n", "n_folds"), [(2, 0), (3, 3), (80, 80), (200, 80), (1000, 32)])
def test_folds_of_a_screen_that_was_saved_without_any_score_everyone_once(n, n_folds):
    names = [f"P{i}" for i in range(n)]
    observed = screen_of_effects(names, np.zeros((n, 7)), GeneSpace(pd.Index(list("ABCDEFG")), np.eye(7))).observed
    left_out = one_gene_space(names, observed, np.eye(7))
    assert len(left_out.folds) == n_folds
    assert sorted(name for fold in left_out.folds for name in fold.scored) == (sorted(names) if n_folds else [])
    sizes = [len(fold.scored) for fold in left_out.folds]
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    for fold, space in zip(left_out.folds, left_out.spaces, strict=True):
        assert space.excluded == fold.excluded
        np.testing.assert_array_equal(space.vectors, np.eye(7))
