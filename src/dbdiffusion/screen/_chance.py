"""What chance makes of correlations of genes: the edge of noise, and how sure the size of a correlated error is."""

from __future__ import annotations

import numpy as np
from scipy import optimize


def noise_edge(variance_of_cells: np.ndarray, n_genes: int, degrees_of_freedom: int | None = None) -> float:
    r"""Largest eigenvalue of the sample correlations of uncorrelated genes, in cells of unequal variance.

    With cells alike it is :math:`(1 + \sqrt{c})^2`, :math:`c = G / N`. Shallow cells are noisier, which moves it up: it is
    the least of :math:`-1/m + \mathrm{mean}_i \, w_i / (1 + c w_i m)` over negative m (Silverstein & Choi, J. Multivar.
    Anal. 1995).

    Parameters
    ----------
    variance_of_cells
        w (N,), of the scaled expression, over genes; one on average.
    n_genes
        G, those that vary.
    degrees_of_freedom
        N less what centring took; N if None.

    Examples
    --------
    >>> round(noise_edge(np.ones(4000), n_genes=1000), 6), bool(noise_edge(np.array([0.5, 1.5] * 2000), 1000) > 2.25)
    (2.25, True)
    """
    ratio = n_genes / max(len(variance_of_cells) if degrees_of_freedom is None else degrees_of_freedom, 1)
    variance = variance_of_cells / variance_of_cells.mean()

    def eigenvalue_at(share: float) -> float:
        m = -share / (ratio * variance.max())
        return float(-1 / m + (variance / (1 + ratio * variance * m)).mean())

    return float(optimize.minimize_scalar(eigenvalue_at, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).fun)


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
