"""Clusters of vectors: Louvain on the graph of nearest neighbours."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sknetwork.clustering import Louvain

CHUNK = 2048  # rows of similarities that are formed at once


def louvain_clusters(vectors: np.ndarray, n_neighbors: int = 15, resolution: float = 1.0) -> np.ndarray:
    """Louvain clusters (n,) of the symmetric cosine nearest-neighbour graph of vectors (n, R).

    Nothing is drawn: the same vectors give the same clusters, from any thread.

    Examples
    --------
    >>> labels = louvain_clusters(np.repeat(np.eye(2), 8, axis=0), n_neighbors=7)
    >>> len(set(labels))
    2
    """
    n = len(vectors)
    k = min(n_neighbors, n - 1, max(2, n // 4))
    if n <= k or n < 4:
        return np.zeros(n, dtype=int)
    graph = _nearest(unit(vectors), k)
    graph = graph.maximum(graph.T)
    return Louvain(resolution=resolution, shuffle_nodes=False, random_state=0).fit_predict(graph).astype(int)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one; those of zeros stay.

    Examples
    --------
    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)


def _nearest(units: np.ndarray, k: int) -> sp.csr_matrix:
    """One where a row (n) is among the k of largest cosine to another."""
    n = len(units)
    columns = []
    for start in range(0, n, CHUNK):
        similarity = units[start : start + CHUNK] @ units.T
        similarity[np.arange(len(similarity)), start + np.arange(len(similarity))] = -np.inf
        columns.append(np.argpartition(-similarity, k - 1, axis=1)[:, :k])
    return sp.csr_matrix((np.ones(n * k), np.concatenate(columns).ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
