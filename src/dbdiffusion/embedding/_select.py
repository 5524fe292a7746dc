"""Choice of the strategy for unseen perturbations: the least error on measured ones left out of everything but genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion.embedding._space import ALL_STRATEGIES, TABLE_STRATEGIES, GeneSpace, fit_space

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.embedding._effects import ObservedEffects

MAX_GROUPS, MIN_GROUPS = 80, 10
MAX_LEFT_OUT = 400  # perturbations that 80 groups are left out of; of more, fewer groups, so that the cost is linear


def n_left_out_groups(n_perturbations: int) -> int:
    """Groups of perturbations that are left out, one group at a time; below 80, every perturbation is its own.

    Examples
    --------
    >>> [n_left_out_groups(n) for n in (20, 200, 1000, 10_000)]
    [20, 80, 32, 10]
    """
    groups = MAX_GROUPS * min(1.0, MAX_LEFT_OUT / max(n_perturbations, 1))
    return max(1, min(n_perturbations, max(MIN_GROUPS, round(groups))))


def left_out_error(
    names: Sequence[str],
    observed: ObservedEffects,
    genes: GeneSpace,
    n_embedding: int,
    user_vectors: pd.DataFrame | None = None,
    separator: str = "+",
) -> pd.DataFrame:
    """Error of every strategy on measured perturbations that were left out, one at a time.

    The principal components are refitted without the perturbation; above 80 perturbations, groups are left out instead
    of single ones (:func:`n_left_out_groups`). Only perturbations that a strategy could place enter its score;
    combinations do not, since they add their parts whatever the strategy. The perturbed gene's own effect is left out
    of the error.

    Returns
    -------
    DataFrame
        Index = strategy, best first; ``mse`` (squared error of the effect, log1p CP10K), ``relative_to_mean`` (the same
        over the error of the mean of the others on the same perturbations), ``n`` (perturbations scored). Strategies that
        nothing could be scored for are absent.
    """
    strategies = [s for s in ALL_STRATEGIES if s not in TABLE_STRATEGIES or user_vectors is not None]
    errors = {s: np.full(len(names), np.nan) for s in strategies}
    folds = np.arange(len(names)) % n_left_out_groups(len(names))
    for fold in np.unique(folds) if len(names) > 2 else ():
        kept = [int(i) for i in np.flatnonzero(folds != fold)]
        space = fit_space(
            [names[i] for i in kept], observed.subset(np.array(kept)), genes, n_embedding, ("ridge",), user_vectors, separator
        )
        for strategy in strategies:
            candidate = space.with_ranking((strategy,), places_anything=True)
            left_out = [i for i in range(len(names)) if folds[i] == fold and len(space.parts(names[i])) == 1]
            _score(candidate, names, observed, left_out, errors[strategy], strategy)
    return _ranked(errors)


def _score(
    space: object,
    names: Sequence[str],
    observed: ObservedEffects,
    left_out: list[int],
    errors: np.ndarray,
    strategy: str,
) -> None:
    left_out = [i for i in left_out if space.can_embed(names[i])]  # type: ignore[attr-defined]
    if not left_out:
        return
    try:
        predicted = space.predict_effect([names[i] for i in left_out])  # type: ignore[attr-defined]
    except ValueError:  # fewer than two perturbations to learn from: this strategy has no score
        return
    for i, effect in zip(left_out, predicted, strict=True):
        others = space.genes.names != names[i]  # type: ignore[attr-defined]
        errors[i] = np.mean((effect - observed.effect[i])[others] ** 2)


def _ranked(errors: dict[str, np.ndarray]) -> pd.DataFrame:
    rows = {}
    for strategy, values in errors.items():
        scored = np.isfinite(values)
        if scored.any():
            reference = np.nanmean(errors["mean"][scored])
            rows[strategy] = {
                "mse": values[scored].mean(),
                "relative_to_mean": values[scored].mean() / reference,
                "n": scored.sum(),
            }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["mse", "relative_to_mean", "n"])
    table.index.name = "strategy"
    return table.sort_values("relative_to_mean", kind="stable")
