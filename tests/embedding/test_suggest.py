"""Laws of suggestions: each leaves least uncertain, none twice, and neither order nor length of vectors matters."""

import numpy as np
import pytest

from dbdiffusion.embedding import most_informative

C, K, R = 37, 5, 4


def vectors(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((C, R)), rng.standard_normal((K, R))


def left_uncertain(candidates, measured):
    """Mean variance of a Gaussian process with cosines for covariances, observed with noise of variance one."""
    ours, known = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (candidates, measured))
    cross = ours @ known.T
    return 1 - np.trace(cross @ np.linalg.solve(known @ known.T + np.eye(len(known)), cross.T)) / len(ours)


def test_each_choice_leaves_least_uncertain_and_what_it_leaves_is_told():
    candidates, have = vectors()
    chosen, uncertainty = most_informative(candidates, have, 6)
    assert uncertainty[0] == pytest.approx(left_uncertain(candidates, have))
    for k, (i, left) in enumerate(zip(chosen, uncertainty[1:], strict=True)):
        others = np.setdiff1d(np.arange(C), chosen[:k])
        after = {j: left_uncertain(candidates, np.vstack([have, candidates[[j]]])) for j in others}
        assert [left, after[i]] == pytest.approx([min(after.values())] * 2)
        have = np.vstack([have, candidates[[i]]])
    assert (np.diff(uncertainty) < 0).all()


def test_all_are_chosen_in_the_end_and_none_twice():
    candidates, measured = vectors()
    assert sorted(most_informative(candidates, measured, C)[0]) == list(range(C))


def test_a_batch_is_two_batches_in_turn():
    candidates, measured = vectors(2)
    first, before = most_informative(candidates, measured, 3)
    chosen, uncertainty = most_informative(candidates, measured, 8)
    assert chosen[:3].tolist() == first.tolist()
    assert uncertainty[3] == pytest.approx(before[3])
    with_them = most_informative(candidates, np.vstack([measured, candidates[first]]), 1)[1]
    assert with_them[0] == pytest.approx(uncertainty[3])


def test_orders_and_lengths_of_vectors_do_not_matter():
    candidates, measured = vectors(4)
    rng = np.random.default_rng(5)
    order, scale = rng.permutation(C), rng.uniform(0.1, 9, (C, 1))
    chosen = most_informative(candidates, measured, 6)[0]
    again = most_informative((scale * candidates)[order], 3 * measured[::-1], 6)[0]
    assert order[again].tolist() == chosen.tolist()


def test_what_is_like_many_comes_before_what_is_like_none_and_before_what_is_known():
    many, alone, known = np.eye(3)
    candidates = np.stack([alone, many, many, many, known, known, known, known])
    chosen = most_informative(candidates, np.tile(known, (20, 1)), 2)[0]
    assert chosen[0] in (1, 2, 3)
    assert not set(chosen) & {4, 5, 6, 7}


def test_vectors_of_nothing_tell_nothing_and_come_last():
    candidates, measured = vectors(6)
    candidates[:3] = 0
    chosen, uncertainty = most_informative(candidates, measured, C)
    assert set(chosen[-3:]) == {0, 1, 2}
    assert np.diff(uncertainty)[-3:].tolist() == [0, 0, 0]
