import numpy as np
import pytest
import scipy.sparse as sp

from dbdiffusion.embedding import _gene_space as module
from dbdiffusion.embedding import gene_vectors, norm_cv
from dbdiffusion.embedding._gene_space import _by_correlation, _by_lanczos

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


def moments(cells):
    dense = cells.toarray().astype(float)
    sd = dense.std(axis=0)
    return dense.mean(axis=0), np.divide(1, sd, out=np.zeros(G), where=sd > 1e-5)


def test_inner_products_are_correlations_when_everything_is_kept(cells, varying):
    vectors = gene_vectors(cells, n_components=50)
    expected = np.corrcoef(cells.toarray()[:, varying].T)
    np.testing.assert_allclose(vectors[varying] @ vectors[varying].T, expected, atol=1e-5)


def test_few_components_are_the_best_approximation_of_that_rank(cells, varying):
    vectors = gene_vectors(cells, n_components=3)[varying]
    correlation = np.corrcoef(cells.toarray()[:, varying].T)
    left_over = np.sort(np.linalg.eigvalsh(correlation))[:-3]
    assert vectors.shape[1] == 3
    np.testing.assert_allclose(np.linalg.norm(vectors @ vectors.T - correlation), np.linalg.norm(left_over), rtol=1e-4)


def test_constant_genes_are_zero(cells, varying):
    vectors = gene_vectors(cells, n_components=5)
    np.testing.assert_allclose(vectors[[4, 7]], 0, atol=1e-6)
    assert np.linalg.norm(vectors[varying], axis=1).min() > 0.05


def test_both_decompositions_agree_up_to_sign(cells):
    mean, inverse_sd = moments(cells)
    dense_right, dense_singular = _by_correlation(cells, mean, inverse_sd, 5, 0)
    right, singular = _by_lanczos(cells.astype(float), mean, inverse_sd, 5, 0)
    np.testing.assert_allclose(singular, dense_singular, rtol=1e-3)
    np.testing.assert_allclose(np.abs((right * dense_right).sum(axis=0)), 1, atol=1e-3)


def test_chunks_of_cells_do_not_matter(cells):
    mean, inverse_sd = moments(cells)
    whole = _by_correlation(cells, mean, inverse_sd, 3, 0)[1]
    np.testing.assert_allclose(_by_correlation(cells, mean, inverse_sd, 3, 0, chunk=17)[1], whole, rtol=1e-6)


def test_many_genes_take_the_other_way_to_the_same_vectors(cells, monkeypatch):
    expected = gene_vectors(cells, n_components=3)
    monkeypatch.setattr(module, "MAX_DENSE_GENES", G - 1)
    np.testing.assert_allclose(gene_vectors(cells, n_components=3), expected, atol=5e-3)


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


def test_a_high_mean_costs_no_precision():
    rng = np.random.default_rng(0)
    values = (6 + 0.05 * rng.standard_normal((5000, 4)) @ rng.standard_normal((4, 4))).astype(np.float32)
    vectors = gene_vectors(sp.csr_matrix(values), n_components=4)
    expected = np.corrcoef(values.astype(float).T)
    left_over = np.linalg.eigvalsh(expected)[0]
    np.testing.assert_allclose(np.linalg.norm(vectors @ vectors.T - expected), left_over, atol=1e-3)


def test_spread_of_a_squared_norm_is_that_of_drawn_errors():
    rng = np.random.default_rng(0)
    vectors, variance = 0.5 * rng.standard_normal((G, 2)), 0.5 + rng.random(G)
    correlation = vectors @ vectors.T
    np.fill_diagonal(correlation, 1.0)
    covariance = np.sqrt(np.outer(variance, variance)) * correlation
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    drawn = (rng.standard_normal((200_000, G)) * np.sqrt(np.maximum(eigenvalues, 0))) @ eigenvectors.T
    squared_norm = (drawn**2).sum(axis=1)
    assert eigenvalues.min() > 0
    assert norm_cv(variance, vectors) == pytest.approx(squared_norm.std() / squared_norm.mean(), rel=0.02)
