"""Laws of suggestions: greedy, never twice, what each adds falls, and what is covered is not asked for again."""

import itertools

import numpy as np
import pytest

from dbdiffusion.embedding import facility_location

C, K, R = 37, 5, 4


def vectors(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((C, R)), rng.standard_normal((K, R))


def worth(candidates, measured, weight=None):
    units = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (candidates, measured)]
    cosine = np.clip(units[0] @ units[1].T, 0, None).max(axis=1, initial=0)
    return cosine @ (np.ones(len(candidates)) if weight is None else weight)


@pytest.mark.parametrize("weighted", [False, True])
def test_each_choice_adds_most_and_what_it_adds_is_told(weighted):
    candidates, measured = vectors()
    weight = np.random.default_rng(1).random(C) if weighted else None
    chosen, gain = facility_location(candidates, measured, 6, weight)
    have = measured
    for one, added in zip(chosen, gain, strict=True):
        after = [worth(candidates, np.vstack([have, candidates[[i]]]), weight) for i in range(C)]
        assert after[one] == pytest.approx(max(after))
        assert added == pytest.approx(max(after) - worth(candidates, have, weight))
        have = np.vstack([have, candidates[[one]]])
    assert (np.diff(gain) <= 1e-12).all()


def test_all_are_chosen_in_the_end_and_none_twice():
    candidates, measured = vectors()
    assert sorted(facility_location(candidates, measured, C)[0]) == list(range(C))
    first = facility_location(candidates, measured, 10)[0]
    assert facility_location(candidates, measured, 4)[0].tolist() == first[:4].tolist()


def test_a_batch_is_two_batches_in_turn():
    candidates, measured = vectors(2)
    first = facility_location(candidates, measured, 3)[0]
    then = facility_location(candidates, np.vstack([measured, candidates[first]]), 5)[0]
    assert [*first, *then][: 3 + 5] == facility_location(candidates, measured, 8)[0].tolist()


def test_greedy_is_nearly_the_best_set():
    candidates, measured = vectors(3)
    candidates = candidates[:12]
    chosen = facility_location(candidates, measured[:1], 3)[0]
    sets = [
        worth(candidates, np.vstack([measured[:1], candidates[list(some)]])) for some in itertools.combinations(range(12), 3)
    ]
    assert worth(candidates, np.vstack([measured[:1], candidates[chosen]])) >= (1 - 1 / np.e) * max(sets)


def test_orders_and_lengths_of_vectors_do_not_matter():
    candidates, measured = vectors(4)
    rng = np.random.default_rng(5)
    order, scale = rng.permutation(C), rng.uniform(0.1, 9, (C, 1))
    chosen = facility_location(candidates, measured, 6)[0]
    again = facility_location((scale * candidates)[order], 3 * measured[::-1], 6)[0]
    assert order[again].tolist() == chosen.tolist()


def test_vectors_of_nothing_cover_nothing():
    candidates, measured = vectors(6)
    candidates[:3] = 0
    chosen, gain = facility_location(candidates, measured, C)
    assert set(chosen[-3:]) == {0, 1, 2}
    assert gain[-3:].tolist() == [0, 0, 0]
