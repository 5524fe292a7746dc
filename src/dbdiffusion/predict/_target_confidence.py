"""How far to trust each target: a small table, one row a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion.embedding import nearest_measured, nearest_similarity, neighbour_coherence
from dbdiffusion.inference import FIRST, Confidence, Rectifier, confidence_features, fit_confidence
from dbdiffusion.predict._answers import by_kind, rectified_answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.predict._fitted import Fitted
    from dbdiffusion.predict._predictor import Predictor
    from dbdiffusion.predict._recipe import Recipe

EXPECTED = ("correlation", *(f"right_{n}" for n in FIRST))
EXPECTED_COLUMNS = tuple(f"{name}{end}" for name in EXPECTED for end in ("", "_low", "_high"))
N_NEAREST = 3


def confidence_table(predictor: Predictor, names: Sequence[str], recipe: Recipe) -> pd.DataFrame:
    """The table of :meth:`DBDiffusion.target_confidence`, in the order of the names, without the numbers of cells."""
    space = predictor.space
    table = pd.DataFrame({"target": list(names)}, dtype=object)
    table["status"] = ["measured" if space.is_measured(name) else "unseen" for name in names]
    for column in EXPECTED_COLUMNS:
        table[column] = np.nan
    near = nearest_measured(space, names, N_NEAREST)
    table["nearest"] = [", ".join(name for name, _ in some) for some in near]
    table["similarity"] = [some[0][1] if some else np.nan for some in near]
    table["strategy"] = [space.strategy_of(name) for name in names]
    table["told_apart"] = True
    unseen = [name for name in names if not space.is_measured(name)]
    if not unseen:
        return table
    answers, fits = rectified_answers(predictor, unseen, recipe)
    for kind, chosen in by_kind(space, unseen):
        rows = table.index[table["target"].isin(chosen)]
        table.loc[rows, "told_apart"] = [answers[name].told_apart for name in chosen]
        confidence = confidence_of(predictor, recipe, fits[kind], combination=kind == "combination")
        if confidence is not None:
            effect = np.stack([answers[name].estimate.effect for name in chosen])
            for column, values in expected_accuracy(predictor, confidence, chosen, effect, recipe.confidence).items():
                table.loc[rows, column] = values
    return table


def confidence_of(predictor: Predictor, recipe: Recipe, fitted: Fitted, *, combination: bool) -> Confidence | None:
    """What the references of a fit say of targets like them; None where they were not left out, or are too few.

    Nor where control cells are not at hand in halves: agreement by the error of one control mean is no evidence.
    """
    pool, screen = predictor.references(recipe), predictor.screen
    members = pool.select(combination=combination)
    if recipe.cross_fitting == "in_sample" or screen.halves is None or pool.similarity is None:
        return None
    if not isinstance(fitted.rectifier, Rectifier):
        return None
    halves = screen.halves.subset(pool.rows[members])
    return fit_confidence(fitted.rectifier, fitted.references, pool.similarity[members], screen.is_listable, halves)


def expected_accuracy(
    predictor: Predictor, confidence: Confidence, names: Sequence[str], effect: np.ndarray, level: float
) -> dict[str, np.ndarray]:
    """Expected accuracy (n,) of predicted effects (n, G), or of their root mean squares (n, 1), with intervals at a level."""
    space = predictor.space
    features = confidence_features(effect, neighbour_coherence(space, names), nearest_similarity(space, names))
    return confidence.expected(features, level)
