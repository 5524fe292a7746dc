"""Principal components of the effects of measured perturbations: a perturbation's embedding is its PCA score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

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
