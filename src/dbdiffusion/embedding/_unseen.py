"""Embeddings of perturbations nobody measured, from those that were: one function a strategy.

A strategy takes what is known of perturbations without their cells (:class:`Evidence`) for K measured ones, the
measured embeddings (K, E), and the evidence of T targets, and returns the targets' embeddings (T, E).
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import igraph
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import kneighbors_graph

if TYPE_CHECKING:
    from collections.abc import Callable

UNCLUSTERED = -1
_ONE_RANDOM_STATE = threading.Lock()


@dataclass(frozen=True)
class Evidence:
    """What is known of n perturbations without their cells.

    Parameters
    ----------
    vectors
        (n, R): :attr:`GeneSpace.evidence`, or a user's own vectors.
    clusters
        (n,) cluster of the perturbed gene; -1 where it has none.
    """

    vectors: np.ndarray
    clusters: np.ndarray

    def subset(self, rows: np.ndarray) -> Evidence:
        """The same for some of the perturbations."""
        return Evidence(self.vectors[rows], self.clusters[rows])


def mean(_known: Evidence, embedding: np.ndarray, target: Evidence) -> np.ndarray:
    """Mean of all measured embeddings."""
    return np.repeat(embedding.mean(axis=0, keepdims=True), len(target.vectors), axis=0)


def ridge(known: Evidence, embedding: np.ndarray, target: Evidence) -> np.ndarray:
    """Ridge regression from vectors to embeddings, penalty by generalised cross-validation."""
    scale = np.sqrt((known.vectors**2).sum(axis=1).mean()) or 1.0
    model = RidgeCV(alphas=np.logspace(-3, 3, 25)).fit(known.vectors / scale, embedding)
    return model.predict(target.vectors / scale).reshape(len(target.vectors), -1)


def knn(known: Evidence, embedding: np.ndarray, target: Evidence, n_neighbors: int = 5) -> np.ndarray:
    """Mean of the nearest measured perturbations, weighted by cosine similarity and shrunk towards the mean of all.

    The mean of all counts as a neighbour of similarity .2, so a target that resembles nobody gets the mean.
    """
    similarity = np.clip(_unit(target.vectors) @ _unit(known.vectors).T, 0, None)
    floor = -np.sort(-similarity, axis=1)[:, min(n_neighbors, similarity.shape[1]) - 1 : min(n_neighbors, similarity.shape[1])]
    weight = np.where(similarity >= floor, similarity, 0.0)
    prior = 0.2
    return (weight @ embedding + prior * embedding.mean(axis=0)) / (weight.sum(axis=1, keepdims=True) + prior)


def cluster(known: Evidence, embedding: np.ndarray, target: Evidence) -> np.ndarray:
    r"""Mean embedding of the effect cluster that holds most perturbations of the target's gene cluster.

    Effect clusters are Leiden clusters of the measured embeddings; with :math:`m_c` members of cluster c whose gene
    shares the target's gene cluster, the score is :math:`m_c \cdot m_c / |c|` (Shang, Wei & Roeder, PNAS 2025). A target
    whose gene cluster holds no measured perturbation gets the mean of all.
    """
    labels, chosen = locate_cluster(known, embedding, target)
    members = np.eye(labels.max() + 1)[labels]  # (K, clusters)
    centres = (members.T @ embedding) / members.sum(axis=0)[:, None]
    return np.where(chosen[:, None] != UNCLUSTERED, centres[chosen], embedding.mean(axis=0))


def locate_cluster(known: Evidence, embedding: np.ndarray, target: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Effect cluster of every measured perturbation (K,), and the one each target is located in (T,), or -1."""
    labels = leiden_clusters(embedding)
    members = np.eye(labels.max() + 1)[labels]
    matched = (target.clusters[:, None] == known.clusters) & (target.clusters[:, None] != UNCLUSTERED)
    score = (matched @ members) ** 2 / members.sum(axis=0)
    return labels, np.where(score.max(axis=1) > 0, score.argmax(axis=1), UNCLUSTERED)


STRATEGIES: dict[str, Callable[[Evidence, np.ndarray, Evidence], np.ndarray]] = {
    "cluster": cluster,
    "knn": knn,
    "mean": mean,
    "ridge": ridge,
}


def leiden_clusters(vectors: np.ndarray, n_neighbors: int = 15, resolution: float = 1.0, seed: int = 0) -> np.ndarray:
    """Leiden clusters (n,) of the symmetric cosine nearest-neighbour graph of vectors (n, R).

    Examples
    --------
    >>> labels = leiden_clusters(np.repeat(np.eye(2), 8, axis=0), n_neighbors=7)
    >>> len(set(labels))
    2
    """
    n = len(vectors)
    k = min(n_neighbors, n - 1, max(2, n // 4))
    if n <= k or n < 4:
        return np.zeros(n, dtype=int)
    adjacency = kneighbors_graph(_unit(vectors), k).tocoo()
    graph = igraph.Graph(n, list(zip(adjacency.row, adjacency.col, strict=True))).simplify()
    with _ONE_RANDOM_STATE:  # igraph has one for all threads
        igraph.set_random_number_generator(random.Random(seed))
        try:
            partition = graph.community_leiden(objective_function="modularity", resolution=resolution, n_iterations=-1)
        finally:
            igraph.set_random_number_generator(random)  # its own at first: the standard library's
    return np.asarray(partition.membership)


def _unit(vectors: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)
