"""A placebo that every screen can run: tuning with what is known of perturbations permuted among them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from dbdiffusion.inference import PERMUTATIONS, placebo_evidence
from dbdiffusion.predict._pool import reference_pool, references_of

if TYPE_CHECKING:
    import numpy as np

    from dbdiffusion.predict._predictor import Predictor
    from dbdiffusion.predict._recipe import Recipe

N_CELLS = 16  # generated for a placebo's mean; it says nothing however many there are
COLUMNS = ["weight", "relative_to_mean", "relative_to_zero"]


def placebo(predictor: Predictor, recipe: Recipe, members: np.ndarray) -> pd.DataFrame:
    """Weight and left-out error of single references whose gene vectors were permuted among them, one row a permutation.

    Parameters
    ----------
    predictor
        Of the screen.
    recipe
        How references are predicted.
    members
        Rows of the reference pool that are judged.

    Returns
    -------
    DataFrame
        ``weight`` of the centred predictors, which should be zero, and squared error of the left-out predictions
        ``relative_to_mean`` and ``relative_to_zero``. Empty where folds are retrained or a model has none: then a permutation
        would be a training of its own.
    """
    if recipe.cross_fitting != "embedding" or predictor.screen.left_out is None:
        return pd.DataFrame(columns=COLUMNS, dtype=float)
    rows = []
    for permutation in range(PERMUTATIONS):
        options = replace(recipe.options, seed=recipe.options.seed + permutation)
        spaces = predictor.left_out.permuted(options.seed)
        pool = reference_pool(predictor, replace(recipe, options=options, n_cells=N_CELLS), spaces)
        weight, evidence = placebo_evidence(references_of(predictor, pool, members))
        rows.append((weight, evidence.ratio("mean")[0], evidence.ratio("zero")[0]))
    return pd.DataFrame(rows, columns=COLUMNS)
