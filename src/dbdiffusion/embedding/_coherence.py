"""How much the measured neighbours of a perturbation agree: known without its cells, it tells how far to trust its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.embedding._space import PerturbationSpace

N_NEIGHBOURS = 5.0  # effective; with eight or a quarter of the measured ones gene lists were shorter
N_BISECTIONS = 50
LEAST = 0.01  # so that no score becomes zero


def neighbour_coherence(space: PerturbationSpace, names: Sequence[str]) -> np.ndarray:
    """Mean cosine (n,) between the effects of a perturbation's measured neighbours, from .01 to 1.

    Effects are taken less the mean of the measured ones. Neighbours weigh as a Gaussian kernel on the angle between vectors
    says, five of them effectively; pairs of them weigh as the product. What has no vector has no neighbours: it gets the
    least.

    Parameters
    ----------
    space
        Holds the measured ones. A perturbation that it holds is a neighbour of itself.
    names
        To place.
    """
    if not len(names) or len(space.names) < 2:
        return np.full(len(names), LEAST)
    weights = kernel_weights(space.similarity(names), min(N_NEIGHBOURS, len(space.names)))
    effect = space.effects.to_effect(space.embedding)
    deviation = effect - effect.mean(axis=0)
    unit = deviation / np.maximum(np.linalg.norm(deviation, axis=1, keepdims=True), 1e-300)
    own = (weights**2).sum(axis=1)
    together = ((weights @ unit) ** 2).sum(axis=1)
    return np.clip((together - own) / np.maximum(1 - own, 1e-12), LEAST, 1.0)


def kernel_weights(similarity: np.ndarray, n_effective: float) -> np.ndarray:
    """Weights exp(k * cosine) with k such that every row's effective number 1 / sum(w²) is as asked, or all it has.

    Parameters
    ----------
    similarity
        (T, K) cosines; NaN get no weight, a row of NaN is a row of zeros.
    n_effective
        Between 1 and K.

    Examples
    --------
    >>> weights = kernel_weights(np.array([[0.9, 0.5, 0.1, -0.3, np.nan]]), n_effective=2.0)
    >>> round(float(1 / (weights**2).sum()), 3)
    2.0
    """
    unknown = np.isnan(similarity)
    nearest = np.where(unknown, -1, similarity).max(axis=1, keepdims=True, initial=-1)
    distance = np.where(unknown, np.inf, nearest - similarity)
    low, high = np.zeros((len(similarity), 1)), np.full((len(similarity), 1), 1e4)
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        weights = _normalised(_kernel(distance, middle))
        too_many = 1 / np.maximum((weights**2).sum(axis=1, keepdims=True), 1e-300) > n_effective
        low, high = np.where(too_many, middle, low), np.where(too_many, high, middle)
    return _normalised(_kernel(distance, high))


def _kernel(distance: np.ndarray, sharpness: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(distance), 0.0, np.exp(-sharpness * np.where(np.isinf(distance), 0.0, distance)))


def _normalised(weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
