"""What the test of measured perturbations says of control cells, where nothing happened."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion.inference import adjust_p_values
from dbdiffusion.predict._answers import observed_estimate
from dbdiffusion.screen import MIN_EXPRESSING

if TYPE_CHECKING:
    from dbdiffusion.screen import ObservedEffects

NULL_LEVELS = (0.05, 0.01)
FDR = 0.05
EXPRESSION_CLASSES = (MIN_EXPRESSING, 20.0, 100.0)  # expected expressing cells; below the first there is no test


@dataclass(frozen=True)
class NullCalibration:
    """Tests of control cells against control cells.

    Parameters
    ----------
    table
        One row a split: ``n_cells, below_0.05, below_0.01`` (shares of the genes that are tested) and ``n_discoveries`` at a
        false discovery rate of 5 %.
    p_values
        (splits, G); NaN for genes that are not tested: they do not vary, or fewer than five cells can be expected to express
        them.
    by_expression
        One row a class of expected expressing cells, those that are not tested among them: ``n_tests, below_0.05,
        below_0.01``, all splits together. Below the least class the normal approximation need not hold, and that is why.

    Examples
    --------
    >>> null = model.null_calibration(n_splits=2)
    >>> null.p_values.shape == (2, adata.n_vars)
    True
    """

    table: pd.DataFrame
    p_values: pd.DataFrame
    by_expression: pd.DataFrame


def judge_nulls(null: ObservedEffects, var_names: np.ndarray) -> NullCalibration:
    """Judge contrasts of control cells against control cells, one a split.

    Examples
    --------
    >>> screen = model.predictor().screen
    >>> judge_nulls(screen.observed, screen.var_names).table.columns.tolist()
    ['n_cells', 'below_0.05', 'below_0.01', 'n_discoveries']
    """
    estimate = observed_estimate(null)
    varying = np.where(estimate.se > 0, estimate.p_value(), np.nan)
    p_values = np.where(null.can_be_tested, varying, np.nan)
    shares = {f"below_{level:g}": _share(p_values < level, np.isfinite(p_values)) for level in NULL_LEVELS}
    discoveries = (adjust_p_values(p_values) <= FDR).sum(axis=1)
    table = pd.DataFrame({"n_cells": null.n_cells, **shares, "n_discoveries": discoveries})
    return NullCalibration(table, pd.DataFrame(p_values, columns=var_names), _by_expression(varying, null.n_expressing))


def _by_expression(p_values: np.ndarray, n_expressing: np.ndarray) -> pd.DataFrame:
    """Shares of p-values (splits, G) below each level, by expected expressing cells."""
    varies = np.isfinite(p_values)
    of_class = np.digitize(n_expressing, EXPRESSION_CLASSES)
    edges = [0.0, *EXPRESSION_CLASSES, np.inf]
    rows = {}
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = p_values[varies & (of_class == i)]
        name = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"
        shares = {f"below_{level:g}": float(np.mean(inside < level)) if inside.size else np.nan for level in NULL_LEVELS}
        rows[name] = {"n_tests": inside.size, **shares}
    return pd.DataFrame(rows).T.rename_axis("expected_expressing").astype({"n_tests": int})


def _share(chosen: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return (chosen & counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
