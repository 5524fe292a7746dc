"""Expected shares of genes in a cell's counts, and how they change where most genes shall not change at all."""

from __future__ import annotations

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    """Shares that sum to 1 over the last axis."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def rebalanced(shares: np.ndarray, log_change: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Change genes of a pool and let that pool alone make up for the change, so that all other shares stay what they are.

    Shares sum to one, so one gene cannot change alone. Where all genes make up for it every gene changes a little.

    Parameters
    ----------
    shares
        Expected shares of cells without the perturbation, (cells, G).
    log_change
        Change of the log rates, (G,) or (cells, G); only that of the pool counts.
    pool
        Which genes change or make up for changes, (G,).

    Returns
    -------
    ndarray
        Shares (cells, G) with the sums of ``shares``; outside the pool the very same numbers.

    Examples
    --------
    >>> shares = np.array([[0.5, 0.25, 0.25]])
    >>> rebalanced(shares, np.log([1.0, 3.0, 1.0]), np.array([False, True, True]))
    array([[0.5  , 0.375, 0.125]])
    """
    before = shares[:, pool]
    after = before * np.exp(log_change[..., pool])
    changed = shares.copy()
    changed[:, pool] = after * (before.sum(axis=1, keepdims=True) / after.sum(axis=1, keepdims=True))
    return changed
