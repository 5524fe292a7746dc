"""How much the measured neighbours of a perturbation agree: known without its cells, it tells how far to trust its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.embedding._reference_sets import kernel_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.embedding._space import PerturbationSpace

N_NEIGHBOURS = 5.0  # effective; with eight or a quarter of the measured ones gene lists were shorter (docs/method.md)
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

    Examples
    --------
    >>> coherence = neighbour_coherence(model.predictor().space, unseen)
    >>> bool(((coherence >= 0.01) & (coherence <= 1)).all())
    True
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
