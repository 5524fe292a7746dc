"""Choice of the strategy for unseen perturbations: the least error on measured ones that were left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion.embedding._space import ALL_STRATEGIES, TABLE_STRATEGIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dbdiffusion.embedding._space import PerturbationSpace

COLUMNS = ["mse", "relative_to_mean", "se", "n"]


def score_strategies(
    placed: Iterable[tuple[PerturbationSpace, Sequence[str]]], effect: Mapping[str, np.ndarray], *, has_table: bool
) -> pd.DataFrame:
    """Error of every strategy on measured perturbations, each placed by a space that knows nothing of it.

    Only perturbations that a strategy could place enter its score; combinations do not, since they add their parts whatever
    the strategy. The perturbed gene's own effect is left out of the error.

    Parameters
    ----------
    placed
        Spaces, and the names that each is asked for.
    effect
        Name to observed effect (G,).
    has_table
        Whether there are a user's own vectors.

    Returns
    -------
    DataFrame
        Index = strategy, best first; ``mse`` (squared error of the effect, log1p CP10K), ``relative_to_mean`` (the same
        over the error of the mean of the others on the same perturbations), ``se`` (standard error of that ratio over
        perturbations), ``n`` (perturbations scored). Strategies that nothing could be scored for are absent.

    Examples
    --------
    >>> predictor = model.predictor()
    >>> names, effect = predictor.screen.names, predictor.screen.observed.effect
    >>> placed = [(space, [names[i] for i in rows]) for space, rows in predictor.left_out.folds()]
    >>> table = score_strategies(placed, dict(zip(names, effect, strict=True)), has_table=False)
    >>> float(table.loc["mean", "relative_to_mean"])
    1.0
    """
    strategies = [s for s in ALL_STRATEGIES if has_table or s not in TABLE_STRATEGIES]
    errors: dict[str, dict[str, float]] = {strategy: {} for strategy in strategies}
    for space, names in placed:
        single = [name for name in names if len(space.parts(name)) == 1]
        for strategy in strategies:
            errors[strategy] |= _errors(space.with_ranking((strategy,), places_anything=True), single, effect)
    return _ranked(errors)


def _errors(space: PerturbationSpace, names: Sequence[str], effect: Mapping[str, np.ndarray]) -> dict[str, float]:
    names = [name for name in names if space.can_embed(name)]
    if not names:
        return {}
    others = [space.genes.names != name for name in names]
    predicted = space.predict_effect(names)
    return {
        name: float(np.mean((values - effect[name])[counted] ** 2))
        for name, values, counted in zip(names, predicted, others, strict=True)
    }


def _ranked(errors: dict[str, dict[str, float]]) -> pd.DataFrame:
    rows = {}
    for strategy, of_names in errors.items():
        if of_names:
            own = np.array(list(of_names.values()))
            mean = np.array([errors["mean"][name] for name in of_names])
            ratio = own.mean() / mean.mean()
            spread = np.std(own - ratio * mean, ddof=1) / np.sqrt(len(own)) if len(own) > 1 else np.nan
            rows[strategy] = {"mse": own.mean(), "relative_to_mean": ratio, "se": spread / mean.mean(), "n": len(own)}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS)
    table.index.name = "strategy"
    return table.astype({"n": int}).sort_values("relative_to_mean", kind="stable")
