"""Ratios of squared errors over perturbations."""

from __future__ import annotations

import numpy as np


def error_ratio(error: np.ndarray, baseline: np.ndarray) -> tuple[float, float]:
    """Ratio of summed squared errors to those of a baseline, and its standard error over perturbations.

    Parameters
    ----------
    error, baseline
        (P,) squared errors of the same perturbations, the noise of the observation taken out or not.

    Returns
    -------
    tuple of float
        The ratio of the sums, and its standard error by the delta method (NaN for a single perturbation). Both NaN where the
        baseline has no error.

    Examples
    --------
    >>> ratio, se = error_ratio(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    >>> ratio, se
    (0.5, 0.0)
    """
    n, total = len(error), float(np.sum(baseline))
    if n == 0 or total <= 0:
        return float("nan"), float("nan")
    ratio = float(np.sum(error)) / total
    if n == 1:
        return ratio, float("nan")
    return ratio, float(np.std(error - ratio * baseline, ddof=1) * np.sqrt(n) / total)
