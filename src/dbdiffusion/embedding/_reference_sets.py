"""Which measured perturbations rectify a target: all alike, those of its located cluster, or neighbours by a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.embedding._space import PerturbationSpace

REFERENCE_SETS = ("all", "cluster", "neighbours")
MIN_EFFECTIVE = 5.0
N_BISECTIONS = 50


def reference_weights(space: PerturbationSpace, targets: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """Weights (T, K) of references for targets, by reference set; rows sum to one.

    Parameters
    ----------
    space
        Places the targets; references that it does not hold get no weight.
    targets, references
        Names.

    Returns
    -------
    dict
        ``"cluster"``: the members of the located cluster, alike. ``"neighbours"``: a Gaussian kernel on the angle between
        vectors, its width such that a quarter of the references count (five at least). A target that has no cluster or
        no vector weighs all references alike.

    Examples
    --------
    >>> weights = reference_weights(model.predictor().space, unseen, model.perturbation_names)
    >>> sorted(weights), bool(np.allclose(weights["neighbours"].sum(axis=1), 1))
    (['cluster', 'neighbours'], True)
    """
    columns = np.array([space.row(name) if space.row(name) is not None else -1 for name in references], dtype=int)
    held = columns >= 0
    member = np.zeros((len(targets), len(references)))
    member[:, held] = space.located(targets)[:, columns[held]]
    similarity = np.full(member.shape, np.nan)
    similarity[:, held] = space.similarity(targets)[:, columns[held]]
    alike = np.broadcast_to(held.astype(float), member.shape)
    kernel = kernel_weights(similarity, max(MIN_EFFECTIVE, held.sum() / 4))
    return {
        "cluster": _normalised(np.where(member.any(axis=1, keepdims=True), member, alike)),
        "neighbours": _normalised(np.where(kernel.any(axis=1, keepdims=True), kernel, alike)),
    }


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
