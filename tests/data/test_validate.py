import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from dbdiffusion.data import check_counts, check_perturbations, check_vectors, row_chunks

N, G, E = 7, 5, 3


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


def obs(column):
    return pd.DataFrame({"perturbation": column, "batch": "x"})


@pytest.mark.parametrize("kind", [list, pd.Categorical])
def test_a_column_in_the_convention_is_accepted(kind):
    frame = obs(kind(["control", "A", "control", "B", "A+B"]))
    before = frame.copy()
    check_perturbations(frame, "perturbation", "control")
    pd.testing.assert_frame_equal(frame, before)


def test_names_that_are_numbers_are_accepted():
    check_perturbations(obs([0, 0, 5, 7]), "perturbation", "0")


def test_a_missing_column_is_named_with_a_close_one():
    with pytest.raises(KeyError, match=r"'pertubation' is not in adata\.obs.*Did you mean 'perturbation'"):
        check_perturbations(obs(["control", "control", "A"]), "pertubation", "control")
    with pytest.raises(KeyError, match="'guide'") as caught:
        check_perturbations(obs(["control", "control", "A"]), "guide", "control")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("missing", [None, np.nan, "", "  "])
def test_missing_names_are_refused(missing):
    with pytest.raises(ValueError, match="missing or empty"):
        check_perturbations(obs(["control", "control", "A", missing]), "perturbation", "control")


def test_an_absent_control_is_named_with_a_close_one():
    with pytest.raises(ValueError, match=r"`control` 'Control'.*'control'.*setup_anndata"):
        check_perturbations(obs(["control", "control", "A"]), "perturbation", "Control")
    with pytest.raises(ValueError, match=r"'xyz'.*'control'"):
        check_perturbations(obs(["control", "control", "A"]), "perturbation", "xyz")


def test_an_unused_category_is_no_control():
    column = pd.Categorical(["A", "B", "B"], categories=["A", "B", "control"])
    with pytest.raises(ValueError, match="control"):
        check_perturbations(obs(column), "perturbation", "control")


def test_one_control_cell_is_too_few():
    with pytest.raises(ValueError, match=r"At least 2 control cells.*got 1"):
        check_perturbations(obs(["control", "A", "A"]), "perturbation", "control")


@pytest.mark.parametrize("kind", [list, lambda c: pd.Categorical(c, categories=["control", "A"])])
def test_control_alone_is_too_little(kind):
    with pytest.raises(ValueError, match="At least one perturbation beside control 'control'"):
        check_perturbations(obs(kind(["control"] * 3)), "perturbation", "control")


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
