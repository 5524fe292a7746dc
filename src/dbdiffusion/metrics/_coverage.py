"""Calibration: does an interval cover as often as it says, and how wide is it."""

from __future__ import annotations

import numpy as np
from scipy import stats

N_QUANTILES = 64


def two_sided_pit(error: np.ndarray, se: np.ndarray, df: np.ndarray | float, noise: np.ndarray | float = 0.0) -> np.ndarray:
    r"""Level at which an interval just covers: the probability that a fresh error is smaller in size.

    The predictive error is :math:`se \cdot t_{df}`, plus, when the prediction is compared with a noisy observation instead of
    the truth, :math:`\sqrt{noise}\, N(0, 1)`. Uniform on [0, 1] when calibrated; covered at level l if at most l.

    Parameters
    ----------
    error
        Prediction minus truth (or observation), any shape.
    se, df
        Of the prediction, broadcast.
    noise
        Sampling variance of the observation.

    Returns
    -------
    ndarray
        Same shape as ``error``; NaN where there is no standard error.

    Examples
    --------
    >>> two_sided_pit(np.array([1.96]), np.array([1.0]), np.inf).round(2)
    array([0.95])
    """
    error, se, df, noise = np.broadcast_arrays(np.abs(error), se, df, noise)
    if not np.any(noise):
        scaled = np.divide(error, se, out=np.full(error.shape, np.inf), where=se > 0)
        return np.where(np.isnan(se), np.nan, np.where((se == 0) & (error == 0), 0.0, 1 - 2 * stats.t.sf(scaled, df)))
    answer = np.zeros(error.shape)
    finite_df = np.where(np.isinf(df), 1e6, df)
    grid = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
    for u, weight in zip(grid, grid**2 / (grid**2).sum(), strict=True):
        precision = stats.gamma.ppf(u**3, finite_df / 2, scale=2 / finite_df)  # denser where the tails lie
        sd = np.sqrt(se**2 / precision + noise)
        certain = np.where(error > 0, np.inf, 0.0)
        answer += weight * (1 - 2 * stats.norm.sf(np.divide(error, sd, out=certain, where=sd > 0)))
    return np.where(np.isnan(se), np.nan, answer)


def coverage(pit: np.ndarray, levels: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)) -> dict[float, tuple[float, float]]:
    """Share covered at each level and its standard error, clustered by perturbation.

    Parameters
    ----------
    pit
        (P, G) from :func:`two_sided_pit`; NaN do not count.
    levels
        Nominal.

    Examples
    --------
    >>> coverage(np.array([[0.1, 0.9], [0.3, 0.2]]), levels=(0.5,))[0.5][0]
    0.75
    """
    pit = pit[np.isfinite(pit).any(axis=1)]
    answer = {}
    for level in levels:
        per_perturbation = np.nanmean(np.where(np.isnan(pit), np.nan, pit <= level), axis=1)
        n = len(per_perturbation)
        error = per_perturbation.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
        answer[level] = (float(per_perturbation.mean()) if n else np.nan, float(error))
    return answer


def interval_score(error: np.ndarray, half_width: np.ndarray, confidence: float) -> np.ndarray:
    """Gneiting & Raftery's interval score (less is better): width, plus 2 / alpha times what a miss missed by.

    Examples
    --------
    >>> interval_score(np.array([0.0, 3.0]), np.array([1.0, 1.0]), 0.95)
    array([ 2., 82.])
    """
    return 2 * half_width + 2 / (1 - confidence) * np.maximum(np.abs(error) - half_width, 0)
