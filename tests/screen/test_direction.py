"""Laws of directions: whatever they are given in, an effect along one is a weighted sum, what cannot be meant is refused."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from dbdiffusion.screen import direction_between, direction_weights

GENES = ["A", "B", "C", "D"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("C", [0, 0, 1, 0]),
        (["D", "A"], [0.5, 0, 0, 0.5]),
        (("A",), [1, 0, 0, 0]),
        (pd.Index(["A", "B"]), [0.5, 0.5, 0, 0]),
        ({"B": -2, "A": 0.5}, [0.5, -2, 0, 0]),
        (pd.Series({"B": -2.0, "A": 0.5}), [0.5, -2, 0, 0]),
        (pd.Series({"A": np.float32(1)}, dtype=object), [1, 0, 0, 0]),
    ],
)
def test_a_direction_is_read_from_whatever_holds_it(given, expected):
    assert direction_weights(given, GENES).tolist() == expected
    assert direction_weights(given, pd.Index(GENES[::-1])).tolist() == expected[::-1]


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ([], ValueError, "names no gene"),
        ({}, ValueError, "names no gene"),
        (["A", "A"], ValueError, r"\['A'\] more than once"),
        (pd.Series([1.0, 2.0], index=["B", "B"]), ValueError, r"\['B'\] more than once"),
        ("b", KeyError, "Did you mean 'B'"),
        (["A", "Z"], KeyError, r"1 of 2 genes that are not measured, \['Z'\]"),
        ({"A": 0.0}, ValueError, "only zeros"),
        ({"A": np.nan, "B": 1}, ValueError, "'A': nan"),
        ({"A": np.inf}, ValueError, "'A': inf"),
        ({"A": "1"}, ValueError, "must be numbers, got '1'"),
        ({"A": True}, ValueError, "must be numbers, got True"),
        (3, ValueError, "got 3"),
        (None, ValueError, "got None"),
        ([1, 2], ValueError, r"got \[1, 2\]"),
        (pd.DataFrame({"w": [1.0]}, index=["A"]), ValueError, "one column of weights"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(given, error, words):
    with pytest.raises(error, match=words):
        direction_weights(given, GENES)


def test_between_two_groups_one_is_all_the_way():
    rng = np.random.default_rng(0)
    first, second = rng.random((5, 4)), rng.random((7, 4))
    there = second.mean(axis=0) - first.mean(axis=0)
    direction = direction_between(first, sp.csr_matrix(second), GENES)
    weights = direction_weights(direction, GENES)
    assert weights @ there == pytest.approx(1)
    across = rng.random(4)
    across -= across @ there / (there @ there) * there
    assert weights @ across == pytest.approx(0)


def test_groups_without_a_direction_are_refused():
    cells = np.ones((3, 4))
    for first, second, words in ((cells, cells, "same mean"), (cells[:0], cells, "`first`"), (cells, cells[:, :3], "`second`")):
        with pytest.raises(ValueError, match=words):
            direction_between(first, second, GENES)
