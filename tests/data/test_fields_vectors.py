import numpy as np
import pandas as pd
import pytest

from dbdiffusion.data import aligned_vectors, check_vectors
from dbdiffusion.screen import NameRule

N, E = 7, 3


def table(**changes):
    frame = pd.DataFrame(np.random.default_rng(0).standard_normal((N, E)), index=[f"GENE{i}" for i in range(N)])
    return frame.assign(**changes)


def test_vectors_come_back_as_numbers_under_names():
    frame = table()
    frame[1] = frame[1].astype(str)
    frame.index = range(N)
    answer = check_vectors(frame, "here")
    assert answer.to_numpy().dtype == np.float64
    assert list(answer.index) == [str(i) for i in range(N)]
    np.testing.assert_allclose(answer.to_numpy(), table().to_numpy())


@pytest.mark.parametrize("other", [np.ones((2, 2)), {"A": [1.0]}, None])
def test_vectors_must_be_a_frame(other):
    with pytest.raises(TypeError, match=rf"here must be a DataFrame.*{type(other).__name__}"):
        check_vectors(other, "here")


@pytest.mark.parametrize("empty", [table().iloc[:0], table().iloc[:, :0]])
def test_an_empty_table_is_refused(empty):
    with pytest.raises(ValueError, match="here is empty"):
        check_vectors(empty, "here")


def test_repeated_names_are_refused():
    frame = table()
    frame.index = ["A", "A", *frame.index[2:]]
    with pytest.raises(ValueError, match=r"'A'.*more than once"):
        check_vectors(frame, "here")


def test_names_that_become_equal_as_text_are_refused():
    frame = table()
    frame.index = [1, "1", *frame.index[2:]]
    with pytest.raises(ValueError, match=r"'1'.*more than once"):
        check_vectors(frame, "here")


@pytest.mark.parametrize("bad", [np.nan, np.inf, "text"])
def test_values_that_are_no_numbers_are_refused(bad):
    frame = table().astype(object)
    frame.iloc[4, 1] = bad
    with pytest.raises(ValueError, match=r"finite numbers.*'GENE4'"):
        check_vectors(frame, "here")


def test_names_that_mean_the_same_are_refused():
    frame = table()
    frame.index = ["A+B", "B+A", *frame.index[2:]]
    with pytest.raises(ValueError, match=r"'A\+B', 'B\+A'.*mean the same"):
        check_vectors(frame, "here", NameRule())
    frame.index = ["A+ctrl", "B+A", *frame.index[2:]]
    assert list(check_vectors(frame, "here", NameRule()).index[:2]) == ["A", "B+A"]


@pytest.mark.parametrize("columns", [["x", "x", "y"], [1, "1", 2]])
def test_columns_of_one_name_are_refused(columns):
    with pytest.raises(ValueError, match=r"more than once in its columns"):
        check_vectors(table().set_axis(columns, axis=1), "here")


def test_further_vectors_are_aligned_by_the_names_of_their_columns():
    known = check_vectors(table().set_axis(list("xyz"), axis=1), "here")
    for order in (list("xyz"), list("zxy")):
        pd.testing.assert_frame_equal(aligned_vectors(known[order], list("xyz"), E, "there"), known)


@pytest.mark.parametrize("columns", [list("abc"), list("xya"), list("xy"), list("xyza")])
def test_foreign_columns_are_refused(columns):
    brought = pd.DataFrame(np.ones((2, len(columns))), index=["A", "B"], columns=columns)
    with pytest.raises(ValueError, match=r"`embeddings` must have the 3 columns.*'x', 'y', 'z'.*names"):
        aligned_vectors(brought, list("xyz"), E, "`embeddings`")


def test_where_no_names_were_stored_columns_must_be_as_many():
    brought = check_vectors(table(), "here")
    assert aligned_vectors(brought, None, E, "there") is brought
    with pytest.raises(ValueError, match="4 columns"):
        aligned_vectors(brought, None, 4, "there")
