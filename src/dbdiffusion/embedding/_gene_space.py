"""Gene space: what co-expression in the cells says about genes, one vector a gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, svds

if TYPE_CHECKING:
    import scipy.sparse as sp

N_GENE_COMPONENTS = 50
MAX_DENSE_GENES = 5000  # above it a G x G matrix is not formed


def gene_vectors(values: sp.csr_matrix, n_components: int = N_GENE_COMPONENTS, seed: int = 0) -> np.ndarray:
    """Right singular vectors of the centred, scaled expression, weighted by their singular values.

    Parameters
    ----------
    values
        Log1p CP10K of the training cells (N, G).
    n_components
        R, never above min(N, G) - 1.
    seed
        Of the starting vector of the Lanczos iteration, which is used above 5,000 genes.

    Returns
    -------
    ndarray
        (G, R) float64; inner products of rows approximate the correlations of genes. Constant genes are zero.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> cells = sp.random(40, 11, density=0.5, random_state=0, format="csr")
    >>> gene_vectors(cells, n_components=3).shape
    (11, 3)
    """
    values = values.astype(np.float64)  # sums of squares cancel in single precision
    n_cells, n_genes = values.shape
    mean = np.asarray(values.mean(axis=0)).ravel()
    variance = np.asarray(values.multiply(values).mean(axis=0)).ravel() - mean**2
    inverse_sd = np.divide(1.0, np.sqrt(np.maximum(variance, 0)), out=np.zeros(n_genes), where=variance > 1e-10)
    k = max(1, min(n_components, min(n_cells, n_genes) - 1))
    decompose = _by_correlation if n_genes <= MAX_DENSE_GENES else _by_lanczos
    right, singular = decompose(values, mean, inverse_sd, k, seed)
    vectors = right * singular
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(k)])
    return vectors * np.where(signs == 0, 1, signs)


def norm_cv(variance: np.ndarray, vectors: np.ndarray) -> float:
    r"""Coefficient of variation of the squared norm of a normal error over correlated genes.

    With covariance :math:`\Sigma` it is :math:`\sqrt{2 \mathrm{tr} \Sigma^2} / \mathrm{tr} \Sigma`; off its diagonal,
    :math:`\Sigma_{gh}` is read off gene space.

    Parameters
    ----------
    variance
        (G,) of the error.
    vectors
        (G, R) gene space, whose inner products approximate correlations.

    Examples
    --------
    >>> uncorrelated, one_factor = np.zeros((50, 1)), np.ones((50, 1))
    >>> round(norm_cv(np.ones(50), uncorrelated), 3), round(norm_cv(np.ones(50), one_factor), 3)
    (0.2, 1.414)
    """
    weighted = vectors.T @ (variance[:, None] * vectors)
    explained = variance * (vectors**2).sum(axis=1)
    trace_of_square = (weighted**2).sum() + (variance**2).sum() - (explained**2).sum()
    return float(np.sqrt(2 * max(trace_of_square, 0.0)) / max(variance.sum(), 1e-300))


def _by_correlation(
    values: sp.csr_matrix, mean: np.ndarray, inverse_sd: np.ndarray, k: int, _seed: int, chunk: int = 4096
) -> tuple[np.ndarray, np.ndarray]:
    n_cells, n_genes = values.shape
    second_moment = np.zeros((n_genes, n_genes))
    for start in range(0, n_cells, chunk):
        dense = values[start : start + chunk].toarray()
        second_moment += dense.T @ dense
    correlation = (second_moment / n_cells - np.outer(mean, mean)) * np.outer(inverse_sd, inverse_sd)
    eigenvalues, right = eigh(correlation, subset_by_index=(n_genes - k, n_genes - 1))
    return right[:, ::-1], np.sqrt(np.maximum(eigenvalues[::-1], 0))


def _by_lanczos(
    values: sp.csr_matrix, mean: np.ndarray, inverse_sd: np.ndarray, k: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    n_cells, n_genes = values.shape
    transposed = values.T.tocsr()

    def project(x: np.ndarray) -> np.ndarray:
        x = x.ravel() * inverse_sd
        return values @ x - mean @ x

    def back(y: np.ndarray) -> np.ndarray:
        return inverse_sd * (transposed @ y.ravel() - mean * y.sum())

    operator = LinearOperator((n_cells, n_genes), matvec=project, rmatvec=back, dtype=np.float64)
    start = np.random.default_rng(seed).standard_normal(min(n_cells, n_genes))
    _, singular, right = svds(operator, k=k, v0=start, tol=1e-3)
    order = np.argsort(-singular)
    return right[order].T, singular[order] / np.sqrt(n_cells)
