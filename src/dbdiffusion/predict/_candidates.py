"""Which perturbations can be asked, what is known of each without its cells, and which are worth measuring next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion._words import say, whole_number
from dbdiffusion.embedding import most_informative, neighbour_coherence
from dbdiffusion.screen import close_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.embedding import PerturbationSpace
    from dbdiffusion.predict._predictor import Predictor

COLUMNS = ("target", "status", "strategy", "similarity", "nearest", "coherence")


def candidate_names(space: PerturbationSpace) -> list[str]:
    """Every name that has an answer: measured ones, then genes and names with vectors that something places.

    Examples
    --------
    >>> names = candidate_names(model.predictor().space)
    >>> set(unseen) <= set(names), names[: len(model.perturbation_names)] == model.perturbation_names
    (True, True)
    """
    own = [] if space.user_vectors is None else [str(name) for name in space.user_vectors.index]
    names = dict.fromkeys([*space.names, *map(str, space.genes.names), *own])
    kept, seen = [], set()
    for name in names:
        key = tuple(sorted(space.parts(name)))
        if key not in seen and space.can_embed(name):
            kept.append(name)
            seen.add(key)
    return kept


def candidate_table(predictor: Predictor, names: Sequence[str] | None = None) -> pd.DataFrame:
    """The table of :meth:`DBDiffusion.candidates`.

    Raises
    ------
    KeyError
        If nothing places a name.

    Examples
    --------
    >>> candidate_table(model.predictor(), unseen)["status"].tolist()
    ['unseen', 'unseen']
    """
    space = predictor.space
    names = candidate_names(space) if names is None else list(names)
    space.check_placed([name for name in names if not space.is_measured(name)])
    cosine = space.similarity(names)
    for i, name in enumerate(names):
        row = space.row(name)
        if row is not None:
            cosine[i, row] = np.nan  # a measured one is no neighbour of itself
    known = np.isfinite(cosine).any(axis=1)
    nearest = np.where(np.isfinite(cosine), cosine, -np.inf).argmax(axis=1)
    of_unseen = [i for i, name in enumerate(names) if not space.is_measured(name)]
    coherence = np.full(len(names), np.nan)
    coherence[of_unseen] = neighbour_coherence(space, [names[i] for i in of_unseen])
    values = (
        names,
        np.where([space.is_measured(name) for name in names], "measured", "unseen"),
        [space.strategy_of(name) for name in names],
        np.where(known, np.take_along_axis(cosine, nearest[:, None], axis=1)[:, 0], np.nan),
        [space.names[i] if k else None for i, k in zip(nearest, known, strict=True)],
        coherence,
    )
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=True)))


def suggested(predictor: Predictor, n: int, candidates: Sequence[str] | None = None) -> pd.DataFrame:
    """The table of :meth:`DBDiffusion.suggest_targets`.

    Raises
    ------
    KeyError
        If nothing places a candidate.
    ValueError
        If there are fewer candidates than are to be chosen, or ``n`` is no number of perturbations.

    Examples
    --------
    >>> suggested(model.predictor(), 1, unseen)["target"].item() in unseen
    True
    """
    n, space = whole_number("n", n, 1), predictor.space
    asked = candidate_names(space) if candidates is None else list(candidates)
    unseen = [name for name in asked if not space.is_measured(name)]
    space.check_placed(unseen)
    vectors = space.unit_vectors(unseen)
    known = np.isfinite(vectors).all(axis=1)
    unseen, vectors = [name for name, has in zip(unseen, known, strict=True) if has], vectors[known]
    if not known.all():
        say(f"{int((~known).sum())} candidates have no vector, so nothing tells what they are like; they are left out.")
    if n > len(unseen):
        near = close_names(asked[0], space.names) if asked else []
        msg = (
            f"`n` must be at most the number of candidates that are not measured and have a vector, {len(unseen)}, got {n!r}"
            f"{f' (measured: {near[:1]})' if near and not unseen else ''}. Name more `candidates`."
        )
        raise ValueError(msg)
    measured = space.unit_vectors(space.names)
    measured = measured[np.isfinite(measured).all(axis=1)]
    chosen, uncertainty = most_informative(vectors, measured, n)
    table = candidate_table(predictor, [unseen[i] for i in chosen])[["target", "similarity", "nearest"]]
    table.insert(0, "rank", np.arange(1, n + 1))
    return table.assign(gain=-np.diff(uncertainty), uncertainty=uncertainty[1:])
