"""Which perturbations go in a direction: measured candidates as they were seen, unseen ones with what left-out ones promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from dbdiffusion._words import real_number, say
from dbdiffusion.inference import (
    MIN_REFERENCES,
    check_alternative,
    fit_rectifier,
    hits,
    left_out_rules,
    observed_along,
    project,
)
from dbdiffusion.predict._answers import by_kind
from dbdiffusion.predict._pool import predictions, references_of
from dbdiffusion.screen import direction_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dbdiffusion.inference import Projection
    from dbdiffusion.predict._predictor import Predictor
    from dbdiffusion.predict._recipe import Recipe

LEVEL = 0.2  # at which it is said how many candidates can be told apart
CHUNK = 256  # targets generated at once
COLUMNS = ("target", "status", "effect", "ci_low", "ci_high", "p_value", "q_value", "in_direction")


def rank(
    predictor: Predictor,
    direction: Any,
    names: Sequence[str],
    recipe: Recipe,
    threshold: float = 0.0,
    alternative: str = "greater",
    track: Any = iter,
) -> pd.DataFrame:
    """The table of :meth:`DBDiffusion.rank_targets`.

    Parameters
    ----------
    predictor
        Of the screen.
    direction
        As :func:`~dbdiffusion.screen.direction_weights` reads it.
    names
        Canonical, each once.
    recipe
        How they are predicted.
    threshold, alternative
        See :meth:`~dbdiffusion.inference.Projection.p_values`.
    track
        Of an iterable of chunks, to show progress.

    Raises
    ------
    KeyError
        If nothing places a name, or a gene of the direction is not measured.
    ValueError
        If the direction, the threshold or the alternative cannot be meant.
    """
    predictor.check_current()
    space = predictor.space
    weights = direction_weights(direction, list(map(str, predictor.screen.var_names)))
    threshold = real_number("threshold", threshold)
    check_alternative(alternative, threshold)
    unseen = [name for name in names if not space.is_measured(name)]
    space.check_placed(unseen)
    measured = [name for name in names if space.is_measured(name)]
    blocks = [_measured(predictor, measured, weights, recipe, threshold, alternative)] if measured else []
    attrs: dict[str, Any] = {"threshold": threshold, "alternative": alternative, "confidence": recipe.confidence}
    for kind, chosen in by_kind(space, unseen):
        block, told = _unseen(predictor, chosen, kind, weights, recipe, threshold, alternative, track)
        blocks.append(block)
        attrs[kind] = told
    table = pd.concat(blocks, ignore_index=True)
    table["in_direction"] = [bool(weights[space.own_genes(name)].any()) for name in table["target"]]
    size = table["effect"] if alternative == "greater" else -table["effect"] if alternative == "less" else table["effect"].abs()
    table = table.iloc[np.argsort(-size.to_numpy(), kind="stable")][list(COLUMNS)].reset_index(drop=True)
    table.attrs = attrs
    return table


def _measured(
    predictor: Predictor, names: list[str], weights: np.ndarray, recipe: Recipe, threshold: float, alternative: str
) -> pd.DataFrame:
    rows = np.array([predictor.space.row(name) for name in names], dtype=int)
    observed, halves = predictor.screen.observed.subset(rows), predictor.screen.halves
    of_rows = None if halves is None else halves.subset(rows)
    estimate = observed_along(observed.effect, observed.variance, observed.control_variance, of_rows, weights)
    low, high = estimate.interval(recipe.confidence)
    with np.errstate(invalid="ignore", divide="ignore"):
        beyond = (estimate.effect - threshold) / estimate.se
    if alternative == "two-sided":
        p_value = estimate.p_value(threshold)
    else:
        p_value = stats.t.sf(beyond if alternative == "greater" else -beyond, estimate.df)
    values = (names, "measured", estimate.effect, low, high, p_value, hits(p_value))
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=False)))


def _unseen(
    predictor: Predictor,
    names: list[str],
    kind: str,
    weights: np.ndarray,
    recipe: Recipe,
    threshold: float,
    alternative: str,
    track: Any,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    pool = predictor.references(recipe)
    members = pool.select(combination=kind == "combination")
    references = references_of(predictor, pool, members)
    rectifier = fit_rectifier(references, recipe.lam)  # without the rule of gene lists, which a ranking does not ask for
    rules = projection = None
    halves = predictor.screen.halves
    if len(members) >= MIN_REFERENCES:
        rules = left_out_rules(rectifier, references, recipe.lam)
        projection = project(rules, weights, None if halves is None else halves.subset(pool.rows[members]))
    effect, each = np.empty(len(names)), []
    for rows in track(_chunks(len(names))):
        some = [names[i] for i in rows]
        predicted = predictions(predictor, predictor.generator, [(predictor.space, some)], recipe)[0]
        effect[rows] = rectifier.estimate(predicted).effect @ weights
        if rules is not None:
            each.append(rules.along(weights, predicted))
    low, high, p_value = (np.full(len(names), np.nan) for _ in range(3))
    words = []
    if projection is None:
        words.append(f"Only {len(members)} references: no interval and no p-value, which need {MIN_REFERENCES}.")
    else:
        stacked = np.concatenate(each)
        low, high = projection.interval(stacked, recipe.confidence)
        words += projection.said(len(names), LEVEL, recipe.confidence)
        if halves is None:
            words.append("Control cells could not be halved, so how much of this is their error is not known: no p-value.")
        else:
            p_value = projection.p_values(stacked, threshold, alternative)
    for sentence in words:
        say(sentence, UserWarning)
    values = (names, "unseen", effect, low, high, p_value, hits(p_value))
    return pd.DataFrame(dict(zip(COLUMNS, values, strict=False))), _told(projection, words, threshold, alternative)


def _told(projection: Projection | None, words: list[str], threshold: float, alternative: str) -> dict[str, Any]:
    """What stands in ``attrs``: of the references, the list that they can tell apart, and the head of the ranking."""
    if projection is None:
        return {"said": words}
    return {
        "n_reference": projection.n_reference,
        "least_p_value": projection.resolution,
        "can_tell_apart": projection.can_tell_apart(LEVEL),
        "head": projection.head(threshold, alternative).to_dict("records"),
        "said": words,
    }


def _chunks(n: int) -> Iterable[np.ndarray]:
    return [np.arange(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]
