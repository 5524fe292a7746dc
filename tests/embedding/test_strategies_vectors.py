import numpy as np
import pandas as pd
import pytest

from dbdiffusion.embedding._strategies import OwnVectors
from dbdiffusion.screen import split_name

TABLE = pd.DataFrame(np.random.default_rng(0).standard_normal((4, 3)) * [1, 10, 100], index=["A", "B+A", "C", "D"])


def parts(name):
    return split_name(name, "+")


def test_rows_are_found_in_any_order_of_parts():
    vectors = OwnVectors(TABLE, parts)
    assert [vectors.row(name) for name in ("A", "A+B", "B+A", "B", "D")] == [0, 1, 1, None, 3]
    assert vectors.names == list(TABLE.index)


def test_columns_weigh_the_same():
    evidence = OwnVectors(TABLE, parts).evidence
    np.testing.assert_allclose(evidence.std(axis=0), 1 / np.sqrt(3))
    constant = OwnVectors(TABLE.assign(same=1.0), parts).evidence
    assert np.isfinite(constant).all()


def test_without_vectors_there_are_no_rows_and_no_evidence():
    vectors = OwnVectors(None, parts)
    assert vectors.row("A") is None
    assert vectors.names == []
    with pytest.raises(ValueError, match="embedding_key"):
        _ = vectors.evidence
