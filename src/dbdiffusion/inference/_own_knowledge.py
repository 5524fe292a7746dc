"""Has a predictor seen what it predicts? Its errors on left-out references cannot be below the noise of the observations."""

from __future__ import annotations

import numpy as np

STANDARD_ERRORS = 2.0


def check_left_out(predicted: np.ndarray, observed: np.ndarray, variance: np.ndarray, name: str) -> float:
    """Refuse predictions of references that know the references' own cells.

    The squared error of a prediction made without a perturbation's cells is at least the sampling noise of its observed effect,
    in expectation. Error less noise, averaged over references, may lie below zero by chance, but not by two standard errors.
    This finds predictors that were fitted to the observations. One that has seen the cells and learnt little from them passes:
    how the table was made stays the user's word.

    Parameters
    ----------
    predicted, observed
        (K, G).
    variance
        (K, G) sampling variance of the perturbations' own means. The control's is left out, since a prediction may share it.
    name
        Of the predictor, for the message.

    Returns
    -------
    float
        Squared error over noise; infinite where there is no noise.

    Raises
    ------
    ValueError
        If the error is too small to be true.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth, one = rng.standard_normal((30, 50)), np.ones((30, 50))
    >>> observed = truth + 0.5 * rng.standard_normal((30, 50))
    >>> round(check_left_out(truth, observed, 0.25 * one, "the truth"), 1)
    1.0
    >>> check_left_out(observed, observed, 0.25 * one, "mine")
    Traceback (most recent call last):
    ValueError: The predictions of 'mine' lie closer to the observed effects than these lie to the truth: ...
    """
    noise = variance.sum(axis=1)
    error = ((observed - predicted) ** 2).sum(axis=1)
    ratio = float(error.sum() / noise.sum()) if noise.sum() > 0 else float("inf")
    excess = error - noise
    doubt = excess.std(ddof=1) / np.sqrt(len(excess)) if len(excess) > 1 else np.inf
    if excess.mean() < -STANDARD_ERRORS * doubt or (len(excess) > 1 and ratio == 0):
        msg = (
            f"The predictions of {name!r} lie closer to the observed effects than these lie to the truth: their squared error "
            f"on {len(excess)} references is {ratio:.2g} of the noise of the observations, {STANDARD_ERRORS:g} standard errors "
            "below it. They were made with those references' cells. Predict each reference without its cells: leave a fold of "
            "perturbations out, train on the others, predict the fold, and put the folds together."
        )
        raise ValueError(msg)
    return ratio
