"""Laws of tables that a user brings: aligned by name, whatever their order; what cannot be meant is refused in words."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from dbdiffusion.screen import NameRule, effect_table

GENES = ["g1", "g2", "g3"]
TABLE = pd.DataFrame([[1.0, 2, 3], [4, 5, 6]], index=["A", "B+C"], columns=GENES)


def test_rows_and_genes_are_told_by_name_whatever_their_order():
    shuffled = TABLE.iloc[::-1, [2, 0, 1]].assign(other=9)
    read = effect_table(shuffled, "`x`", NameRule(), GENES)
    pd.testing.assert_frame_equal(read.loc[["A", "B+C"]], TABLE, check_dtype=False)
    assert effect_table(TABLE.astype(int), "`x`").to_numpy().dtype == float


def test_an_anndata_is_a_table():
    adata = ad.AnnData(TABLE.to_numpy(), obs=pd.DataFrame(index=TABLE.index), var=pd.DataFrame(index=GENES))
    assert np.array_equal(effect_table(adata, "`x`", NameRule(), GENES), TABLE)


def test_what_is_given_stays_as_it_was():
    given = TABLE.rename(index={"A": "ctrl+A"})
    before = given.copy()
    assert effect_table(given, "`x`", NameRule()).index.tolist() == ["A", "B+C"]
    pd.testing.assert_frame_equal(given, before)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ([1, 2], TypeError, "got list"),
        (TABLE.to_numpy(), TypeError, "got ndarray"),
        (TABLE.iloc[:0], ValueError, r"empty, shape \(0, 3\)"),
        (TABLE.rename(index={"A": "C+B"}), ValueError, r"'C\+B' and 'B\+C'"),
        (TABLE.rename(columns={"g1": "g2"}), ValueError, "columns that mean the same, 'g2' and 'g2'"),
        (TABLE.rename(columns={"g1": "G1 "}), KeyError, "lacks 1 of the 3 genes, .*Did you mean 'G1 '"),
        (TABLE.assign(g2=[np.nan, 1]), ValueError, "nan of 'A' in gene 'g2'"),
        (TABLE.assign(g2=[np.inf, 1]), ValueError, "inf of 'A' in gene 'g2'"),
        (TABLE.assign(g2=["x", 1]), ValueError, "'x' of 'A' in gene 'g2'"),
        (TABLE > 2, ValueError, "must hold numbers, got .'bool'"),
    ],
)
def test_what_is_no_table_of_effects_is_refused_in_words(given, error, words):
    with pytest.raises(error, match=words):
        effect_table(given, "`x`", NameRule(), GENES)
