import numpy as np
import pytest

from dbdiffusion.screen import LeftOut, SpaceWithout, network_folds, perturbation_folds, spaces_needed
from dbdiffusion.screen._screen import inner_folds

G, R = 11, 3


def names_of(n_singles, pairs=()):
    singles = [f"G{i}" for i in range(n_singles)]
    return {name: (name,) for name in singles} | {"+".join(pair): tuple(pair) for pair in pairs}


PARTS = names_of(23, [("G0", "G1"), ("G2", "G5"), ("G7", "elsewhere"), ("G1", "G22")])


def test_everyone_is_scored_once():
    scored = [name for fold in perturbation_folds(PARTS) for name in fold.scored]
    assert sorted(scored) == sorted(PARTS)


def test_scoring_a_single_leaves_out_every_combination_that_contains_it():
    for fold in perturbation_folds(PARTS):
        if len(PARTS[fold.scored[0]]) == 1:
            expected = {name for name, parts in PARTS.items() if set(parts) & set(fold.scored)}
            assert set(fold.excluded) == expected


def test_scoring_a_combination_leaves_out_itself_in_any_order_and_keeps_its_parts():
    parts = PARTS | {"G1+G0": ("G1", "G0")}
    folds = [fold for fold in perturbation_folds(parts) if len(parts[fold.scored[0]]) > 1]
    assert all(fold.scored == fold.excluded for fold in folds)
    together = next(fold for fold in folds if "G0+G1" in fold.scored)
    assert "G1+G0" in together.excluded
    assert not {"G0", "G1"} & set(together.excluded)


@pytest.mark.parametrize(("n", "n_folds"), [(23, 5), (20, 4), (3, 3), (4, 9), (23, 10)])
def test_folds_are_as_equal_as_can_be(n, n_folds):
    sizes = [len(fold.scored) for fold in perturbation_folds(names_of(n), n_folds)]
    assert len(sizes) == min(n, n_folds)
    assert max(sizes) - min(sizes) <= 1


def test_fewer_than_three_have_no_folds():
    assert perturbation_folds(names_of(2)) == ()


def test_folds_depend_on_names_and_seed_and_not_on_their_order():
    shuffled = dict(sorted(PARTS.items(), key=lambda item: hash(item[0]) % 7))
    assert perturbation_folds(PARTS, 5, seed=1) == perturbation_folds(shuffled, 5, seed=1)
    assert perturbation_folds(PARTS, 5, seed=1) != perturbation_folds(PARTS, 5, seed=2)


@pytest.mark.parametrize("n_networks", [2, 3, 5, 8])
def test_there_are_no_more_folds_than_networks(n_networks):
    folds = network_folds(PARTS, n_networks)
    assert len(folds) == len(network_folds(names_of(23), n_networks)) == n_networks
    scored = [name for fold in folds for name in fold.scored]
    assert sorted(scored) == sorted(PARTS if n_networks > 2 else names_of(23))


@pytest.mark.parametrize("n_networks", [2, 3, 5, 8])
def test_no_network_leaves_out_everything(n_networks):
    for fold in network_folds(PARTS, n_networks):
        assert {name for name in PARTS if "+" not in name} - set(fold.excluded)


def test_a_folds_strategies_are_judged_on_other_folds_without_either():
    folds = perturbation_folds(PARTS, 7)
    excluded, inner = spaces_needed(folds, PARTS)
    assert excluded[: len(folds)] == [fold.excluded for fold in folds]
    for i, pairs in enumerate(inner):
        for other, space in pairs:
            assert other != i
            assert set(excluded[space]) == {*folds[i].excluded, *folds[other].excluded}
    assert len(set(excluded[len(folds) :])) == len(excluded) - len(folds)  # a pair of folds serves both


def test_the_number_of_spaces_grows_with_the_number_of_folds():
    for n in (6, 10, 20):
        folds = perturbation_folds(names_of(40), n)
        assert len(spaces_needed(folds, names_of(40))[0]) == 3 * n


def test_combinations_of_measured_parts_need_no_strategy():
    folds = perturbation_folds(PARTS, 30)
    judged = {name: others for fold, others in zip(folds, inner_folds(folds, PARTS), strict=True) for name in fold.scored}
    assert judged["G0+G1"] == ()
    assert judged["G7+elsewhere"]  # a part of it must be placed
    assert all(len(PARTS[folds[other].scored[0]]) == 1 for other in judged["G7+elsewhere"])


def left_out(rng):
    folds = perturbation_folds(PARTS, 4)
    excluded, inner = spaces_needed(folds, PARTS)
    vectors = [rng.standard_normal((G, R)).astype(np.float32).astype(float) for _ in excluded]
    return LeftOut(folds, tuple(SpaceWithout(*each, np.full(G, 0.5)) for each in zip(excluded, vectors, strict=True)), inner)


def test_what_is_saved_comes_back_bit_for_bit():
    before = left_out(np.random.default_rng(0))
    after = LeftOut.from_dict(before.to_dict())
    assert (after.folds, after.inner) == (before.folds, before.inner)
    for one, other in zip(before.spaces, after.spaces, strict=True):
        assert one.excluded == other.excluded
        assert np.array_equal(one.vectors, other.vectors)
        assert np.array_equal(one.noise, other.noise)


def test_what_is_measured_later_gets_folds_of_its_own():
    before, vectors = left_out(np.random.default_rng(0)), np.ones((G, R))
    after = before.extended({"LATE": ("LATE",), "LATER": ("LATER",)}, vectors, np.full(G, 0.1))
    assert [fold.scored for fold in after.folds[len(before.folds) :]] in ([("LATE",), ("LATER",)], [("LATER",), ("LATE",)])
    assert after.spaces[len(before.folds)].vectors is vectors
    for i, pairs in enumerate(before.inner):
        for (other, space), (same, moved) in zip(pairs, after.inner[i], strict=True):
            assert other == same
            assert after.spaces[moved] is before.spaces[space]
