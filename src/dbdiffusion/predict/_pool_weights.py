"""Reference sets as weights: who rectifies whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.embedding import REFERENCE_SETS, reference_weights
from dbdiffusion.inference import ALL, MIN_REFERENCES, effective_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.embedding import PerturbationSpace


def weights_of_others(
    placements: list[tuple[PerturbationSpace, list[int]]], screen_names: Sequence[str], names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Weights (K, K) of the other references by reference set; each is placed by the space that does not hold it.

    Parameters
    ----------
    placements
        Spaces, and the rows of the screen that each places.
    screen_names, names
        Of the screen's rows and of the K references.
    """
    position = {name: i for i, name in enumerate(names)}
    answer = {kind: np.zeros((len(names), len(names))) for kind in REFERENCE_SETS if kind != ALL}
    for space, rows in placements:
        members = [screen_names[row] for row in rows]
        for kind, weights in reference_weights(space, members, names).items():
            answer[kind][[position[name] for name in members]] = weights
    for weights in answer.values():
        np.fill_diagonal(weights, 0)
    return answer


def restricted_sets(
    sets: dict[str, np.ndarray], members: np.ndarray, chosen: str, own: np.ndarray | None = None
) -> dict[str, np.ndarray | None]:
    """Weights (T, members) of the reference sets to choose from.

    Parameters
    ----------
    sets
        Weights (T, K) by reference set.
    members
        Columns to keep.
    chosen
        A reference set, or ``"auto"``: all of them, and a row with fewer than three effective references weighs all alike.
    own
        (T,) column, among the kept, that is the row itself and gets no weight; None for targets.
    """
    answer: dict[str, np.ndarray | None] = {ALL: None} if chosen in ("auto", ALL) else {}
    for name, weights in sets.items():
        if chosen not in ("auto", name):
            continue
        alike = np.ones((len(weights), len(members)))
        if own is not None:
            alike[np.arange(len(weights)), own] = 0
        kept = weights[:, members]
        total = kept.sum(axis=1, keepdims=True)
        kept = np.divide(kept, total, out=np.zeros_like(kept), where=total > 0)
        few = effective_number(kept)[:, None] < (MIN_REFERENCES if chosen == "auto" else 0)
        lost = few | (total <= 0)
        answer[name] = np.where(lost, alike / np.maximum(alike.sum(axis=1, keepdims=True), 1), kept)
    return answer
