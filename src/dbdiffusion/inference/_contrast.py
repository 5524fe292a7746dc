"""Measured perturbations: the observed contrast against control."""

from __future__ import annotations

import numpy as np

from dbdiffusion.inference._estimate import Estimate


def welch_contrast(
    effect: np.ndarray, variance: np.ndarray, control_variance: np.ndarray, df: np.ndarray, control_df: float
) -> Estimate:
    """Welch's t for observed effects.

    Parameters
    ----------
    effect
        (n, G) differences of means.
    variance, control_variance
        (n, G) sampling variances of the perturbation's and of control's mean.
    df
        (n,) or (n, G) degrees of freedom of the former; 0 (a single cell) gives no interval.
    control_df
        Of the latter.

    Returns
    -------
    Estimate
        Degrees of freedom by Satterthwaite. A gene without any variance has a standard error of zero.

    References
    ----------
    Welch, Biometrika 34 (1947).

    Examples
    --------
    >>> estimate = welch_contrast(np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)), np.array([10]), 10)
    >>> float(estimate.se[0, 0].round(3)), float(estimate.df[0, 0])
    (1.414, 20.0)
    """
    total = variance + control_variance
    df = df[:, None] if df.ndim == 1 else df
    with np.errstate(invalid="ignore", divide="ignore"):
        welch_df = total**2 / (variance**2 / df + control_variance**2 / control_df)
    known = (df > 0) & np.isfinite(total)
    return Estimate(effect, np.where(known, np.sqrt(total), np.nan), np.where(welch_df > 0, welch_df, np.inf))
