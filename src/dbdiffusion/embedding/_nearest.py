"""The measured perturbations most like a target, by what is known of both without the target's cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.embedding._space import PerturbationSpace


def nearest_measured(space: PerturbationSpace, names: Sequence[str], n: int = 3) -> list[list[tuple[str, float]]]:
    """Up to n measured perturbations for every name, and the cosine of their vectors with its own, most similar first.

    Parameters
    ----------
    space
        Holds the measured ones. A perturbation is not its own neighbour.
    names
        To place. What has no vector has no neighbours.

    Examples
    --------
    >>> nearest = nearest_measured(model.predictor().space, unseen, n=2)
    >>> [len(of_one) for of_one in nearest], bool(nearest[0][0][1] >= nearest[0][1][1])
    ([2, 2], True)
    """
    answer = []
    for name, cosines in zip(names, space.similarity(names), strict=True):
        known = [row for row in np.argsort(-cosines, kind="stable") if np.isfinite(cosines[row]) and row != space.row(name)]
        answer.append([(space.names[row], float(cosines[row])) for row in known[:n]])
    return answer


def nearest_similarity(space: PerturbationSpace, names: Sequence[str]) -> np.ndarray:
    """Cosine (n,) with the nearest of the measured perturbations; NaN for what has no vector.

    Examples
    --------
    >>> space = model.predictor().space
    >>> float(nearest_similarity(space, unseen)[0]) == nearest_measured(space, unseen)[0][0][1]
    True
    """
    return np.array([near[0][1] if near else np.nan for near in nearest_measured(space, names, n=1)])
