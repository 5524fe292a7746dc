"""Embeddings of perturbations nobody measured, from those that were: one function a strategy.

A strategy takes what is known of perturbations without their cells (:class:`Evidence`) for K measured ones, the
measured embeddings (K, E), and the evidence of T targets, and returns the targets' embeddings (T, E).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import eigh
from sklearn.linear_model import RidgeCV

from dbdiffusion.screen import DIGITS_OF_COSINES, louvain_clusters, meant_of, unit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pandas as pd


# A user's own vectors of perturbations or genes, as evidence of where perturbations lie.


class OwnVectors:
    """Vectors by name, the parts of a combination in any order.

    Parameters
    ----------
    table
        Index = names, columns = dimensions; None means that there are no vectors.
    parts
        Of a name.

    Examples
    --------
    >>> import pandas as pd
    >>> vectors = OwnVectors(pd.DataFrame(np.eye(2), index=["A", "B+A"]), lambda name: tuple(name.split("+")))
    >>> vectors.row("A+B"), vectors.row("B")
    (1, None)
    """

    def __init__(self, table: pd.DataFrame | None, parts: Callable[[str], tuple[str, ...]]) -> None:
        self._table, self._parts = table, parts

    @property
    def names(self) -> list[str]:
        """Of all vectors."""
        return [] if self._table is None else [str(name) for name in self._table.index]

    def row(self, name: str) -> int | None:
        """Row of a name; None if it has no vector."""
        return self._rows.get(tuple(sorted(self._parts(name))))

    @cached_property
    def evidence(self) -> np.ndarray:
        """Vectors (n, R), columns standardised, so that all of them weigh the same.

        Raises
        ------
        ValueError
            If there are none.
        """
        if self._table is None:
            msg = "This needs your own vectors: name them with `embedding_key` or `add_perturbations`."
            raise ValueError(msg)
        values = self._table.to_numpy(dtype=float)
        spread = values.std(axis=0)
        scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
        return scaled / np.sqrt(max(1, scaled.shape[1]))

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], int]:
        return {tuple(sorted(self._parts(name))): row for row, name in enumerate(self.names)}


# Principal components of the effects of measured perturbations: a perturbation's embedding is its PCA score.


MAX_EMBEDDING = 64
LEAST_NOISE = 0.05  # of a gene, in medians over genes
MAX_SVD_ROWS = 50  # of the shorter side; above it the Gram matrix is faster


@dataclass(frozen=True)
class EffectSpace:
    """Principal components of the effects of K perturbations, every gene scaled by its sampling noise.

    Parameters
    ----------
    mean
        (G,) mean effect.
    gene_scale
        (G,) what a gene is divided by before the PCA.
    components
        (E, G), orthonormal rows.

    Examples
    --------
    >>> effects = np.random.default_rng(0).standard_normal((4, 11))
    >>> space = fit_effect_space(effects, np.ones(11), n_components=3)
    >>> bool(np.allclose(space.to_effect(space.to_embedding(effects)), effects))
    True
    """

    mean: np.ndarray
    gene_scale: np.ndarray
    components: np.ndarray

    def to_embedding(self, effect: np.ndarray) -> np.ndarray:
        """Effects (n, G) to embeddings (n, E)."""
        return ((effect - self.mean) / self.gene_scale) @ self.components.T

    def to_effect(self, embedding: np.ndarray) -> np.ndarray:
        """Embeddings (n, E) to effects (n, G)."""
        return embedding @ self.components * self.gene_scale + self.mean

    @property
    def control(self) -> np.ndarray:
        """Embedding of control, whose effect is zero, (E,)."""
        return self.to_embedding(np.zeros((1, len(self.mean))))[0]


def fit_effect_space(effect: np.ndarray, noise: np.ndarray, n_components: int) -> EffectSpace:
    """PCA of effects (K, G), each gene scaled by its noise so that components follow signal and not noisy genes.

    Parameters
    ----------
    effect
        (K, G).
    noise
        (G,) mean sampling variance of the effects.
    n_components
        E, never above min(K - 1, G, 64), at least 1.

    Examples
    --------
    >>> fit_effect_space(np.eye(4, 11), np.ones(11), n_components=9).components.shape
    (3, 11)
    """
    mean = effect.mean(axis=0)
    gene_scale = np.sqrt(noise + LEAST_NOISE * np.median(noise[noise > 0]) if (noise > 0).any() else np.ones_like(noise))
    k = max(1, min(n_components, MAX_EMBEDDING, len(effect) - 1, effect.shape[1]))
    right = _right_singular_vectors((effect - mean) / gene_scale, k)
    signs = np.sign(right[np.arange(k), np.abs(right).argmax(axis=1)])
    return EffectSpace(mean, gene_scale, right * np.where(signs == 0, 1, signs)[:, None])


def _right_singular_vectors(matrix: np.ndarray, k: int) -> np.ndarray:
    """The first k, as rows (k, G); by way of the smaller Gram matrix where that loses nothing."""
    n_rows, n_columns = matrix.shape
    n = min(n_rows, n_columns)
    if n > MAX_SVD_ROWS:
        gram = matrix @ matrix.T if n_rows < n_columns else matrix.T @ matrix
        values, vectors = eigh(gram, subset_by_index=(n - k, n - 1))
        values, vectors = values[::-1], vectors[:, ::-1]
        if values[-1] > 1e-8 * values[0]:
            return (vectors.T @ matrix) / np.sqrt(values)[:, None] if n_rows < n_columns else vectors.T
    return np.linalg.svd(matrix, full_matrices=False)[2][:k]


# Why a perturbation cannot be placed, in words that say the way out.


MOST_SHOWN = 5  # names


def not_placed(
    name: str, measured: Iterable[str], genes: Iterable[str], vectors: Iterable[str], others: Sequence[str] = ()
) -> KeyError:
    """Nothing is known of a name, nor of the others; close ones are named as what they are.

    Examples
    --------
    >>> "GATA1" in str(not_placed("GATA", [], ["GATA1", "MYC"], []))
    True
    """
    hint = meant_of(name, {"measured perturbation": measured, "gene": genes, "vector of": vectors})
    shown = ", ".join(map(repr, others[:MOST_SHOWN])) + (f" and {len(others) - MOST_SHOWN} more" if others[MOST_SHOWN:] else "")
    same = f" The same holds of {shown}." if others else ""
    return KeyError(
        f"{name!r} was not measured, is not among the measured genes and has no vector of your own, so nothing places "
        f"it.{hint} Either give it a vector (`embedding_key` in `setup_anndata`, or `add_perturbations`), or keep its "
        f"gene among the measured genes.{same}"
    )


def too_few(strategy: str, n: int, least: int) -> ValueError:
    """A strategy knows the name, but has too few measured perturbations to learn from.

    Examples
    --------
    >>> str(too_few("ridge", 1, 2))[:52]
    "Strategy 'ridge' needs at least 2 measured perturbat"
    """
    return ValueError(
        f"Strategy {strategy!r} needs at least {least} measured perturbations with a vector, got {n}. Give vectors for the "
        "measured perturbations (`embedding_key`), or use strategy 'mean'."
    )


UNCLUSTERED = -1
NEAREST = 20
POWER_OF_COSINE = 4
SHARE_OF_THE_MEAN = 0.2
SIMILARITY_OF_THE_MEAN = 0.2
ENOUGH = 1000  # measured perturbations for a median
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


def knn(known: Evidence, embedding: np.ndarray, target: Evidence) -> np.ndarray:
    """Mean of the twenty nearest measured perturbations, weighted by the fourth power of their cosines.

    Who points the other way does not count. The mean of all joins with a fifth of what the neighbours of a measured one count
    together (the median of them), so a target that fewer resemble gets more of it. It counts at least as a neighbour of
    cosine .2: whom nobody resembles gets the mean.
    """
    measured = unit(known.vectors)
    weight = _neighbour_weights(unit(target.vectors) @ measured.T)
    of_mean = max(SHARE_OF_THE_MEAN * _likeness(measured), SIMILARITY_OF_THE_MEAN**POWER_OF_COSINE)
    return (weight @ embedding + of_mean * embedding.mean(axis=0)) / (weight.sum(axis=1, keepdims=True) + of_mean)


def _neighbour_weights(cosine: np.ndarray) -> np.ndarray:
    """Weights (n, K) by cosines; none beyond the nearest, so that many who resemble a little do not drown a few who do.

    All that tie with the last of the nearest count.
    """
    cosine = np.clip(cosine, 0, None)
    n = min(NEAREST, cosine.shape[1])
    compared = cosine.round(DIGITS_OF_COSINES)  # the last digits are the processor's: they must not break ties
    least = np.partition(compared, -n, axis=1)[:, [-n]]
    return np.where(compared >= least, cosine, 0.0) ** POWER_OF_COSINE


def _likeness(measured: np.ndarray) -> float:
    """What the neighbours of a measured perturbation weigh together; the median, so that a large family does not decide."""
    rows = np.arange(0, len(measured), max(1, len(measured) // ENOUGH))
    cosine = measured[rows] @ measured.T
    cosine[np.arange(len(rows)), rows] = 0.0  # nobody is a neighbour of itself
    return float(np.median(_neighbour_weights(cosine).sum(axis=1)))


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
