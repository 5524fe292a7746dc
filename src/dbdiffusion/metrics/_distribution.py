"""Distances between two sets of cells: pure functions of arrays."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist


def energy_distance(first: np.ndarray, second: np.ndarray, *, self_pairs: bool = False) -> float:
    """Energy distance ``2 E|X-Y| - E|X-X'| - E|Y-Y'|``, Euclidean.

    Parameters
    ----------
    first, second
        (n, D) and (m, D), at least two cells each.
    self_pairs
        Whether a cell counts as its own neighbour. Without (the default) the estimate is unbiased and can be negative; with, as
        pertpy and cell-eval have it, it is positive and shrinks with the number of cells, so compare equal numbers only.

    References
    ----------
    Székely & Rizzo, J Stat Plan Inference 143 (2013).

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((200, 5))
    >>> abs(energy_distance(x[:100], x[100:])) < 0.1
    True
    """
    within = np.mean if self_pairs else _within
    return float(2 * cdist(first, second).mean() - within(cdist(first, first)) - within(cdist(second, second)))


def mmd_rbf(first: np.ndarray, second: np.ndarray, bandwidths: tuple[float, ...] = (0.5, 1.0, 2.0)) -> float:
    """Squared maximum mean discrepancy, mean over Gaussian kernels at multiples of the median distance, unbiased.

    References
    ----------
    Gretton et al., JMLR 13 (2012).

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((200, 5))
    >>> mmd_rbf(x[:100], x[100:] + 3) > mmd_rbf(x[:100], x[100:])
    True
    """
    xy, xx, yy = (cdist(a, b, "sqeuclidean") for a, b in ((first, second), (first, first), (second, second)))
    median = max(float(np.median(xy)), 1e-12)
    values = []
    for bandwidth in bandwidths:
        kernel = [np.exp(-d / (bandwidth**2 * median)) for d in (xy, xx, yy)]
        values.append(_within(kernel[1]) + _within(kernel[2]) - 2 * kernel[0].mean())
    return float(np.mean(values))


def _within(pairs: np.ndarray) -> float:
    """Mean over pairs of different cells."""
    n = len(pairs)
    return float((pairs.sum() - np.trace(pairs)) / (n * (n - 1)))
