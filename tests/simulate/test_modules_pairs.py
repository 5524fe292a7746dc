import numpy as np

from dbdiffusion.simulate._modules import Pairs, draw_pairs, sums_of_parts


def test_pairs_differ_and_so_do_their_parts():
    parts = draw_pairs(np.random.default_rng(0), 6, 11)
    assert len({frozenset(pair) for pair in parts.tolist()}) == 11
    assert all(len(set(pair)) == 2 for pair in parts.tolist())


def test_nothing_is_drawn_where_no_pairs_are_asked_for():
    one, other = np.random.default_rng(0), np.random.default_rng(0)
    assert draw_pairs(one, 6, 0).shape == (0, 2)
    assert one.random() == other.random()


def test_names_and_sums_are_those_of_the_parts():
    parts = np.array([[0, 2], [1, 2]])
    assert Pairs(parts, np.array([1])).named(["A", "B", "C"]) == ["A+C", "B+C"]
    np.testing.assert_array_equal(sums_of_parts(np.array([1, 2, 4]), parts), [1, 2, 4, 5, 6])
    np.testing.assert_array_equal(sums_of_parts(np.array([True, False, False]), parts), [True, False, False, True, False])
