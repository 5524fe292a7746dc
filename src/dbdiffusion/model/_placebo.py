"""A placebo that every screen can run: tuning with what is known of perturbations permuted among them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from dbdiffusion.inference import PERMUTATIONS, placebo_evidence
from dbdiffusion.model._references import reference_pool, references_of

if TYPE_CHECKING:
    import numpy as np

    from dbdiffusion.model._answers import Way

N_CELLS = 16  # generated for a placebo's mean; it says nothing however many there are
COLUMNS = ["weight", "relative_to_mean", "relative_to_zero"]


def placebo(model: Any, way: Way, members: np.ndarray) -> pd.DataFrame:
    """Weight and left-out error of single references whose gene vectors were permuted among them, one row a permutation.

    Parameters
    ----------
    model
        With both stages trained.
    way
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
    screen = model._screen()
    if way.cross_fitting != "embedding" or screen.left_out is None:
        return pd.DataFrame(columns=COLUMNS, dtype=float)
    spaces, rows = model._left_out_spaces(screen), []
    for permutation in range(PERMUTATIONS):
        options = replace(way.options, seed=way.options.seed + permutation)
        pool = reference_pool(model, way.cross_fitting, options, N_CELLS, spaces.permuted(options.seed))
        weight, evidence = placebo_evidence(references_of(model, pool, members, "all"))
        rows.append((weight, evidence.ratio("mean")[0], evidence.ratio("zero")[0]))
    return pd.DataFrame(rows, columns=COLUMNS)
