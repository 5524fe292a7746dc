"""Which perturbations go in a direction: measured candidates as they were seen, unseen ones with what left-out ones promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from dbdiffusion._words import real_number, say, whole_number
from dbdiffusion.embedding import most_informative, neighbour_coherence
from dbdiffusion.inference import (
    MIN_REFERENCES,
    check_alternative,
    hits,
    left_out_rules,
    observed_along,
    project,
)
from dbdiffusion.predict._answers import by_kind
from dbdiffusion.predict._calibration import confidence_of, expected_accuracy
from dbdiffusion.predict._pool import Fitted, predictions, rectified
from dbdiffusion.screen import close_names, direction_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dbdiffusion.embedding import PerturbationSpace
    from dbdiffusion.inference import Projection
    from dbdiffusion.predict._predictor import Predictor, Recipe


# Which perturbations can be asked, what is known of each without its cells, and which are worth measuring next.


CANDIDATE_COLUMNS = ("target", "status", "strategy", "similarity", "nearest", "coherence")


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
    return pd.DataFrame(dict(zip(CANDIDATE_COLUMNS, values, strict=True)))


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
    if len(measured) < FEWEST_IN_SPACE:
        say(
            f"Only {len(measured)} of {len(space.names)} measured perturbations have a vector in gene space, so hardly "
            "anything tells which candidates are like them, and the order of the suggestions means little."
        )
    chosen, uncertainty = most_informative(vectors, measured, n)
    table = candidate_table(predictor, [unseen[i] for i in chosen])[["target", "similarity", "nearest"]]
    table.insert(0, "rank", np.arange(1, n + 1))
    return table.assign(gain=-np.diff(uncertainty), uncertainty=uncertainty[1:])


FEWEST_IN_SPACE = 3  # measured perturbations
LEVEL = 0.2  # at which it is said how many candidates can be told apart
CHUNK = 256  # targets generated at once
COLUMNS = ("target", "status", "effect", "ci_low", "ci_high", "p_value", "q_value", "correlation", "own_gene_in_direction")


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

    Examples
    --------
    >>> from dbdiffusion.predict import GenerationOptions, Recipe
    >>> gene = adata.var_names[5]
    >>> table = rank(model.predictor(), gene, unseen, Recipe(GenerationOptions(), n_cells=64, confidence=0.8))
    >>> bool(table["effect"].is_monotonic_decreasing)
    True
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
    table["own_gene_in_direction"] = [bool(weights[space.own_genes(name)].any()) for name in table["target"]]
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
    variances, listable = (observed.variance, observed.control_variance), predictor.screen.is_listable
    estimate = observed_along(observed.effect, *variances, of_rows, weights, listable)
    low, high = estimate.interval(recipe.confidence)
    with np.errstate(invalid="ignore", divide="ignore"):
        beyond = (estimate.effect - threshold) / estimate.se
    if alternative == "two-sided":
        p_value = estimate.p_value(threshold)
    else:
        p_value = stats.t.sf(beyond if alternative == "greater" else -beyond, estimate.df)
    values = (names, "measured", estimate.effect, low, high, p_value, hits(p_value), np.nan)
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
    references, rectifier = rectified(predictor, recipe, pool, members)
    halves = predictor.screen.halves
    rules = projection = confidence = None
    if len(members) >= MIN_REFERENCES:
        rules = left_out_rules(rectifier, references)
        projection = project(rules, weights, None if halves is None else halves.subset(pool.rows[members]))
        without_lists = Fitted(rectifier, references)  # which a ranking does not ask for
        confidence = confidence_of(predictor, recipe, without_lists, combination=kind == "combination")
    effect, size, each = np.empty(len(names)), np.empty((len(names), 1)), []
    for rows in track(_chunks(len(names))):
        some = [names[i] for i in rows]
        raw, _ = predictions(predictor, predictor.generator, [(predictor.space, some)], recipe)
        predicted = references.of_targets(raw)
        of_genes = rectifier.estimate(predicted).effect
        effect[rows], size[rows, 0] = of_genes @ weights, np.sqrt((of_genes**2).mean(axis=1))
        if rules is not None:
            each.append(rules.along(weights, predicted))
    low, high, p_value, correlation = (np.full(len(names), np.nan) for _ in range(4))
    if confidence is not None:
        correlation = expected_accuracy(predictor, confidence, names, size, recipe.confidence)["correlation"]
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
    values = (names, "unseen", effect, low, high, p_value, hits(p_value), correlation)
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
