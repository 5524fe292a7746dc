"""Embeddings of perturbations nobody measured, from those that were: one function a strategy.

A strategy takes what is known of perturbations without their cells (:class:`Evidence`) for K measured ones, the
measured embeddings (K, E), and the evidence of T targets, and returns the targets' embeddings (T, E).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import RidgeCV

from dbdiffusion.screen import louvain_clusters, unit

if TYPE_CHECKING:
    from collections.abc import Callable

UNCLUSTERED = -1
NEAREST = 5
SIMILARITY_OF_THE_MEAN = 0.2
PENALTIES = np.logspace(-3, 3, 25)


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
    model = RidgeCV(alphas=PENALTIES).fit(known.vectors / scale, embedding)
    return model.predict(target.vectors / scale).reshape(len(target.vectors), -1)


def knn(known: Evidence, embedding: np.ndarray, target: Evidence, n_neighbors: int = NEAREST) -> np.ndarray:
    """Mean of the nearest measured perturbations, weighted by cosine similarity and shrunk towards the mean of all.

    The mean of all counts as a neighbour of similarity .2, so a target that resembles nobody gets the mean.
    """
    similarity = np.clip(unit(target.vectors) @ unit(known.vectors).T, 0, None)
    floor = -np.sort(-similarity, axis=1)[:, min(n_neighbors, similarity.shape[1]) - 1 : min(n_neighbors, similarity.shape[1])]
    weight = np.where(similarity >= floor, similarity, 0.0)
    prior = SIMILARITY_OF_THE_MEAN
    return (weight @ embedding + prior * embedding.mean(axis=0)) / (weight.sum(axis=1, keepdims=True) + prior)


def cluster(known: Evidence, embedding: np.ndarray, target: Evidence) -> np.ndarray:
    r"""Mean embedding of the effect cluster that holds most perturbations of the target's gene cluster.

    Effect clusters are Louvain clusters of the measured embeddings; with :math:`m_c` members of cluster c whose gene
    shares the target's gene cluster, the score is :math:`m_c \cdot m_c / |c|` (Shang, Wei & Roeder, PNAS 2025). A target
    whose gene cluster holds no measured perturbation gets the mean of all.
    """
    labels, chosen = locate_cluster(known, embedding, target)
    members = np.eye(labels.max() + 1)[labels]  # (K, clusters)
    centres = (members.T @ embedding) / members.sum(axis=0)[:, None]
    return np.where(chosen[:, None] != UNCLUSTERED, centres[chosen], embedding.mean(axis=0))


def locate_cluster(known: Evidence, embedding: np.ndarray, target: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Effect cluster of every measured perturbation (K,), and the one each target is located in (T,), or -1."""
    labels = louvain_clusters(embedding)
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
