import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from dbdiffusion.data import check_counts, row_chunks

N, G = 7, 5


def counts(dtype=np.float32):
    return np.random.default_rng(0).poisson(1.0, (N, G)).astype(dtype)


def screen(matrix):
    return ad.AnnData(matrix, var=pd.DataFrame(index=[f"GENE{i}" for i in range(G)]))


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint16])
def test_counts_of_every_kind_are_accepted(kind, dtype):
    adata = screen(kind(counts(dtype)))
    before = adata.X.copy()
    check_counts(adata, None)
    assert type(adata.X) is type(before)
    assert adata.X.dtype == before.dtype
    assert abs(adata.X - before).sum() == 0


@pytest.mark.parametrize("kind", [sp.csr_array, sp.csc_array])
def test_sparse_arrays_are_refused_with_the_way_out(kind):
    with pytest.raises(ValueError, match=rf"{kind.__name__}.*csr_matrix\(adata\.X\)"):
        check_counts(screen(kind(counts())), None)


@pytest.mark.parametrize(
    ("value", "problem"), [(np.nan, "NaN"), (np.inf, "infinite"), (-1.0, "negative"), (0.5, "fractional"), (1e-7, "fractional")]
)
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_values_that_are_no_counts_are_refused(kind, value, problem):
    matrix = counts(np.float64)
    matrix[N - 1, G - 1] = value
    with pytest.raises(ValueError, match=f"{problem}.*layer"):
        check_counts(screen(kind(matrix)), None)


def test_booleans_are_no_counts():
    with pytest.raises(ValueError, match="of type bool"):
        check_counts(screen(counts() > 0), None)


def test_negative_integers_are_refused():
    matrix = counts(np.int64)
    matrix[2, 3] = -4
    with pytest.raises(ValueError, match="negative"):
        check_counts(screen(matrix), None)


def test_the_layer_is_what_is_checked():
    adata = screen(np.log1p(counts()) + 0.5)
    adata.layers["counts"] = counts()
    check_counts(adata, "counts")
    with pytest.raises(ValueError, match="fractional"):
        check_counts(adata, None)
    with pytest.raises(KeyError, match=r"'count' is not in adata\.layers.*'counts'"):
        check_counts(adata, "count")


def test_no_matrix_at_all_is_refused():
    adata = ad.AnnData(shape=(N, G))
    with pytest.raises(ValueError, match=r"adata\.X is None.*layer"):
        check_counts(adata, None)


def test_names_of_genes_must_be_unique():
    adata = screen(counts())
    adata.var_names = ["GENE0", "GENE1", "GENE1", "GENE2", "GENE3"]
    with pytest.raises(ValueError, match=r"unique.*'GENE1'.*var_names_make_unique"):
        check_counts(adata, None)


def test_one_gene_is_too_few():
    with pytest.raises(ValueError, match=r"At least 2 genes.*got 1"):
        check_counts(screen(counts())[:, :1], None)


def test_counts_on_disk_are_read(tmp_path):
    good, bad = counts(), counts()
    bad[N - 1, 0] = 0.5
    for matrix, name in ((good, "good"), (bad, "bad")):
        screen(sp.csr_matrix(matrix)).write_h5ad(tmp_path / f"{name}.h5ad")
    check_counts(ad.read_h5ad(tmp_path / "good.h5ad", backed="r"), None)
    with pytest.raises(ValueError, match="fractional"):
        check_counts(ad.read_h5ad(tmp_path / "bad.h5ad", backed="r"), None)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
def test_chunks_make_up_the_matrix(chunk):
    matrix = sp.csr_matrix(counts())
    blocks = list(row_chunks(matrix, chunk))
    assert max(block.shape[0] for block in blocks) == min(chunk, N)
    np.testing.assert_array_equal(sp.vstack(blocks).toarray(), matrix.toarray())


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_totals_of_all_cells_or_of_some(kind):
    matrix = counts()
    np.testing.assert_array_equal(check_counts(screen(kind(matrix)), None), matrix.sum(axis=1))
    some = check_counts(screen(kind(matrix)), None, [slice(1, 3), slice(5, 6)])
    np.testing.assert_array_equal(some, matrix.sum(axis=1)[[1, 2, 5]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint8, np.int16])
def test_totals_are_summed_in_double_precision(dtype):
    matrix = np.full((3, 2000), 200, dtype=dtype)
    adata = ad.AnnData(matrix, var=pd.DataFrame(index=[f"g{i}" for i in range(2000)]))
    totals = check_counts(adata, None)
    assert totals.dtype == np.float64
    assert totals.tolist() == [400_000.0] * 3


def test_complex_numbers_are_no_counts():
    with pytest.raises(ValueError, match="complex"):
        check_counts(screen(counts(np.complex64)), None)
