import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from dbdiffusion.screen import GeneSpace, gene_vectors, gene_vectors_without, log1p_cp10k
from dbdiffusion.screen import _gene_space as module
from dbdiffusion.screen._gene_space import _by_cells, _by_correlation, _by_iteration, _Cells, noise_edge, sums_without

N, G = 130, 11


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    activity = rng.standard_normal((N, 3)) * [1.5, 1.0, 0.6]
    values = np.maximum(activity @ rng.standard_normal((3, G)) + rng.standard_normal((N, G)), 0)
    values[:, 4] = 0.0
    values[:, 7] = 2.5
    return sp.csr_matrix(values.astype(np.float32))


@pytest.fixture
def varying():
    return np.array([g for g in range(G) if g not in (4, 7)])


@pytest.fixture
def batch():
    return np.random.default_rng(3).integers(0, 4, N)


@pytest.fixture
def every_component(monkeypatch):
    """Those within chance, too."""
    monkeypatch.setattr(module, "noise_edge", lambda *_: 0.0)


def centred(values, batch=None):
    batch = np.zeros(values.shape[0], dtype=int) if batch is None else batch
    return _Cells.of(values.astype(float), batch, int(batch.max()) + 1)


def by_correlation(values, k, batch=None):
    batch = np.zeros(values.shape[0], dtype=int) if batch is None else batch
    ((_, sums),) = sums_without(values.astype(float), batch, 0 * batch, [()])
    return _by_correlation(sums, centred(values, batch).inverse_sd, k)


def shifted(cells, batch):
    shift = np.random.default_rng(4).uniform(0, 5, (batch.max() + 1, G))
    return sp.csr_matrix(cells.toarray() + shift[batch])


@pytest.mark.usefixtures("every_component")
def test_inner_products_are_correlations_when_everything_is_kept(cells, varying):
    vectors = gene_vectors(cells, n_components=50)
    expected = np.corrcoef(cells.toarray()[:, varying].T)
    np.testing.assert_allclose(vectors[varying] @ vectors[varying].T, expected, atol=1e-5)


@pytest.mark.usefixtures("every_component")
def test_few_components_are_the_best_approximation_of_that_rank(cells, varying):
    vectors = gene_vectors(cells, n_components=3)[varying]
    correlation = np.corrcoef(cells.toarray()[:, varying].T)
    left_over = np.sort(np.linalg.eigvalsh(correlation))[:-3]
    assert vectors.shape[1] == 3
    np.testing.assert_allclose(np.linalg.norm(vectors @ vectors.T - correlation), np.linalg.norm(left_over), rtol=1e-4)


def test_constant_genes_are_zero(cells, varying):
    vectors = gene_vectors(cells, n_components=5)
    assert not vectors[[4, 7]].any()
    assert np.linalg.norm(vectors[varying], axis=1).min() > 0.05


@pytest.mark.usefixtures("every_component")
def test_inner_products_are_correlations_within_batches(cells, batch, varying):
    dense = cells.toarray().astype(float)
    residual = dense - np.stack([dense[batch == b].mean(axis=0) for b in range(4)])[batch]
    vectors = gene_vectors(cells, batch, n_components=50)
    np.testing.assert_allclose(vectors[varying] @ vectors[varying].T, np.corrcoef(residual[:, varying].T), atol=1e-5)


@pytest.mark.parametrize("max_dense_genes", [G, G - 1])
def test_shifts_of_whole_batches_do_not_matter(cells, batch, monkeypatch, max_dense_genes):
    monkeypatch.setattr(module, "MAX_DENSE_GENES", max_dense_genes)
    moved = shifted(cells, batch)
    still = gene_vectors(cells, batch, n_components=2)
    np.testing.assert_allclose(gene_vectors(moved, batch, n_components=2), still, atol=5e-3)
    assert not np.allclose(gene_vectors(moved, n_components=2), still, atol=0.1)


@pytest.mark.parametrize("n_batches", [1, 200])
def test_as_many_components_are_kept_as_there_are_programs(n_batches):
    rng = np.random.default_rng(0)
    n_cells, n_genes, n_programs = 600, 150, 3
    within = np.arange(n_cells) % n_batches
    noise = rng.standard_normal((n_cells, n_genes))
    programs = rng.standard_normal((n_cells, n_programs)) @ rng.standard_normal((n_programs, n_genes))
    assert gene_vectors(sp.csr_matrix(noise + 0.5 * programs), within).shape == (n_genes, n_programs)
    assert gene_vectors(sp.csr_matrix(noise), within).shape == (n_genes, 1)  # one at least


def test_cells_of_unequal_depth_make_no_components():
    rng = np.random.default_rng(0)
    n_cells, n_genes = 1000, 800
    depth = 10_000 * np.exp(0.4 * rng.standard_normal((n_cells, 1)))
    share = rng.dirichlet(np.full(n_genes, 0.7))
    values = sp.csr_matrix(log1p_cp10k(sp.csr_matrix(rng.poisson(depth * share).astype(np.float32)), depth.ravel()))
    assert gene_vectors(values).shape[1] == 1  # depth itself
    eigenvalues = by_correlation(values, 12)[1] ** 2
    assert (eigenvalues > noise_edge(np.ones(n_cells), n_genes)).sum() > 3  # as it would be if cells were alike


def test_variance_of_cells_is_that_of_their_residuals(cells, batch, varying):
    dense = cells.toarray().astype(float)
    residual = dense - np.stack([dense[batch == b].mean(axis=0) for b in range(4)])[batch]
    scaled = residual[:, varying] / residual[:, varying].std(axis=0)
    np.testing.assert_allclose(centred(cells, batch).variance_of_cells(), (scaled**2).mean(axis=1), rtol=1e-5)


@pytest.mark.parametrize("max_dense_genes", [G, G - 1])
def test_genes_that_vary_nowhere_have_no_vectors(monkeypatch, max_dense_genes):
    monkeypatch.setattr(module, "MAX_DENSE_GENES", max_dense_genes)
    assert not gene_vectors(sp.csr_matrix(np.ones((N, G), dtype=np.float32))).any()


def test_components_of_the_evidence_weigh_the_same(cells):
    vectors = gene_vectors(cells, n_components=3)
    evidence = GeneSpace(pd.Index([f"G{i}" for i in range(G)]), vectors).evidence
    np.testing.assert_allclose((evidence**2).mean(axis=0), 1)
    cosine = (evidence * vectors).sum(axis=0) / np.linalg.norm(evidence, axis=0) / np.linalg.norm(vectors, axis=0)
    np.testing.assert_allclose(cosine, 1)
    nothing = GeneSpace(pd.Index(["A", "B"]), np.zeros((2, 3)))
    assert np.array_equal(nothing.evidence, np.zeros((2, 3)))


@pytest.fixture
def many_genes():
    rng = np.random.default_rng(0)
    programs = rng.standard_normal((300, 4)) @ (rng.standard_normal((4, 90)) * np.array([[2.0], [1.5], [1.2], [1.0]]))
    batch = np.arange(300) % 4
    values = programs + rng.standard_normal((300, 90)) + 5 * rng.random((4, 90))[batch]
    values[:, 7] = 3.0
    return sp.csr_matrix(values.astype(np.float32)), batch


def test_decompositions_agree_up_to_sign(many_genes):
    values, batch = many_genes
    dense_right, dense_singular = by_correlation(values, 4, batch)
    within = centred(values, batch)
    for right, singular in (_by_cells(within, 4), _by_iteration(within, 4, 0, chunk=77)):
        np.testing.assert_allclose(singular, dense_singular, rtol=1e-4)
        np.testing.assert_allclose(np.abs((right * dense_right).sum(axis=0)), 1, atol=1e-4)


@pytest.mark.parametrize("few_cells", [300, 299])
def test_many_genes_take_another_way_to_the_same_vectors(many_genes, monkeypatch, few_cells):
    monkeypatch.setattr(module, "FEW_CELLS", few_cells)
    expected = gene_vectors(*many_genes, n_components=10)
    monkeypatch.setattr(module, "MAX_DENSE_GENES", 89)
    found = gene_vectors(*many_genes, n_components=10)
    assert expected.shape == (90, 4)
    assert not found[7].any()
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.array_equal(found, gene_vectors(*many_genes, n_components=10))


@pytest.mark.usefixtures("every_component")
def test_signs_are_fixed_by_the_largest_entry(cells):
    vectors = gene_vectors(cells, n_components=4)
    assert (vectors[np.abs(vectors).argmax(axis=0), np.arange(4)] > 0).all()


def test_order_and_scale_of_genes_do_not_matter(cells, varying):
    order = np.random.default_rng(1).permutation(varying)
    scale = np.linspace(0.5, 3, G)
    vectors = gene_vectors(cells[:, varying], n_components=3)
    changed = gene_vectors(sp.csr_matrix((cells.toarray() * scale)[:, order]), n_components=3)
    rows = np.searchsorted(varying, order)
    np.testing.assert_allclose(changed @ changed.T, (vectors @ vectors.T)[np.ix_(rows, rows)], atol=1e-5)


@pytest.mark.usefixtures("every_component")
def test_a_high_mean_costs_no_precision():
    rng = np.random.default_rng(0)
    values = (6 + 0.05 * rng.standard_normal((5000, 4)) @ rng.standard_normal((4, 4))).astype(np.float32)
    vectors = gene_vectors(sp.csr_matrix(values), n_components=4)
    expected = np.corrcoef(values.astype(float).T)
    left_over = np.linalg.eigvalsh(expected)[0]
    np.testing.assert_allclose(np.linalg.norm(vectors @ vectors.T - expected), left_over, atol=1e-3)


WAYS = pytest.mark.parametrize(("max_dense_genes", "few_cells"), [(90, 400), (89, 400), (89, 20)])
GROUP = np.random.default_rng(5).integers(0, 6, 300)
EXCLUDED = [(), (2,), (0, 3), (2, 5)]


@WAYS
def test_without_some_groups_it_is_the_gene_space_of_the_other_cells(many_genes, monkeypatch, max_dense_genes, few_cells):
    monkeypatch.setattr(module, "MAX_DENSE_GENES", max_dense_genes)
    monkeypatch.setattr(module, "FEW_CELLS", few_cells)
    values, batch = many_genes
    spaces = gene_vectors_without(values, batch, GROUP, EXCLUDED, n_components=8)
    for groups, vectors in zip(EXCLUDED, spaces, strict=True):
        kept = ~np.isin(GROUP, groups)
        np.testing.assert_allclose(vectors, gene_vectors(values[kept], batch[kept], n_components=8), atol=1e-6)
    assert not np.allclose(spaces[0], spaces[2], atol=0.01)


@WAYS
@pytest.mark.parametrize("fate", ["other counts", "half removed", "all removed", "added", "a batch of their own"])
def test_cells_that_are_left_out_have_no_part_bit_for_bit(many_genes, monkeypatch, max_dense_genes, few_cells, fate):
    monkeypatch.setattr(module, "MAX_DENSE_GENES", max_dense_genes)
    monkeypatch.setattr(module, "FEW_CELLS", few_cells)
    before = gene_vectors_without(*many_genes, GROUP, EXCLUDED, n_components=8)
    rng, n_cells = np.random.default_rng(6), len(GROUP)
    for i, groups in enumerate(EXCLUDED[1:], start=1):
        out = np.isin(GROUP, groups)
        values, batch, rows = many_genes[0].toarray(), many_genes[1].copy(), np.arange(n_cells)
        if fate == "other counts":
            values[out] = 50 * rng.random((out.sum(), 90))
        elif fate == "a batch of their own":
            batch[out] = 9
        elif fate == "added":
            rows = np.concatenate([rows, rng.permutation(np.flatnonzero(out))])
        else:
            rows = np.flatnonzero(~out | ((np.arange(n_cells) % 2 == 0) & (fate == "half removed")))
        after = gene_vectors_without(sp.csr_matrix(values[rows]), batch[rows], GROUP[rows], EXCLUDED, n_components=8)
        np.testing.assert_array_equal(after[i], before[i])
        assert after[0].shape != before[0].shape or not np.array_equal(after[0], before[0])


def test_permuted_vectors_take_their_clusters_along():
    rng = np.random.default_rng(0)
    names, rows = pd.Index([f"G{i}" for i in range(40)]), rng.permutation(40)
    genes = GeneSpace(names, 3 * np.eye(3)[np.arange(40) % 3] + 0.1 * rng.standard_normal((40, 3)))
    for before in ("clustered", "not yet"):
        space = GeneSpace(names, genes.vectors)
        if before == "clustered":
            assert len(set(space.clusters)) > 1
        permuted = space.permuted(rows)
        np.testing.assert_array_equal(permuted.vectors, genes.vectors[rows])
        np.testing.assert_allclose(permuted.evidence, genes.evidence[rows])
        together = permuted.clusters[:, None] == permuted.clusters
        np.testing.assert_array_equal(together, (genes.clusters[:, None] == genes.clusters)[np.ix_(rows, rows)])
        assert permuted.names.equals(names)
        np.testing.assert_array_equal(space.vectors, genes.vectors)
