"""What left-out references promise: squared errors of the prediction, beside those of the mean and of no effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.inference._tuning import left_out_fit, mean_of_others
from dbdiffusion.metrics import error_ratio

if TYPE_CHECKING:
    from dbdiffusion.inference._rectifier import Rectifier
    from dbdiffusion.inference._tuning import References


# Has a predictor seen what it predicts? Its errors on left-out references cannot be below the noise of the observations.


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


PERMUTATIONS = 20


@dataclass(frozen=True)
class Evidence:
    """Squared errors (n,) of predictions against the truth, summed over genes, as far as known noise can be taken out.

    Parameters
    ----------
    prediction
        Of what is predicted.
    mean, zero
        Of the mean of the measured perturbations, and of no effect.

    Examples
    --------
    >>> Evidence(np.array([1.0, 1.0]), np.array([2.0, 2.0]), np.array([4.0, 4.0])).ratio("mean")
    (0.5, 0.0)
    """

    prediction: np.ndarray
    mean: np.ndarray
    zero: np.ndarray

    @property
    def best(self) -> str:
        """The better of mean and zero."""
        return "mean" if self.mean.sum() <= self.zero.sum() else "zero"

    def ratio(self, baseline: str) -> tuple[float, float]:
        """Summed error over that of a baseline, and its standard error over perturbations."""
        return error_ratio(self.prediction, getattr(self, baseline))

    def subset(self, rows: np.ndarray) -> Evidence:
        """The same for some of the perturbations."""
        return Evidence(self.prediction[rows], self.mean[rows], self.zero[rows])


def squared_errors(
    effect: np.ndarray, predicted: np.ndarray, variance: np.ndarray, control_variance: np.ndarray, control_weight: float
) -> np.ndarray:
    r"""Squared errors (n,) against the truth, in expectation.

    An error against an observed effect has the observation's own noise, and hides what of the control's error
    :math:`e_0` prediction and observation share. With :math:`a` its weight in the prediction, the error against the truth is
    the one against the observation, minus the own noise, plus :math:`(2a - 1) \|e_0\|^2`.

    Parameters
    ----------
    effect, predicted, variance
        (n, G) observed, predicted, and sampling variance of the perturbations' own means.
    control_variance
        (G,) of the control mean, the same in all.
    control_weight
        a.

    Examples
    --------
    >>> one = np.ones((1, 4))
    >>> squared_errors(one, 0 * one, 0.1 * one, np.full(4, 0.05), control_weight=0.0).round(3)
    array([3.4])
    """
    against_observed = ((effect - predicted) ** 2).sum(axis=1)
    return against_observed - variance.sum(axis=1) + (2 * control_weight - 1) * control_variance.sum()


def left_out_evidence(rectifier: Rectifier, references: References) -> Evidence:
    """Evidence of the references, each predicted by the others; where some are not placed, of the placed ones.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier
    >>> seen = np.random.default_rng(0).standard_normal((20, 30))
    >>> references = References(seen, np.zeros((20, 30)), np.zeros(30), {"exact": seen})
    >>> ratio, _ = left_out_evidence(fit_rectifier(references), references).ratio("mean")
    >>> bool(ratio < 0.01)
    True
    """
    filled = references.without_own_genes()
    evidence = _evidence(filled, rectifier.loo_predicted, rectifier.control_weight)
    return evidence if references.placed is None else evidence.subset(references.placed)


def placebo_evidence(references: References) -> tuple[float, Evidence]:
    """Total weight of predictors that know nothing, and the left-out evidence of what is predicted with them.

    Parameters
    ----------
    references
        With predictions made of permuted evidence. They are centred first, each less the mean of the others: a predictor
        that has become the mean is no fault.

    Examples
    --------
    >>> from dbdiffusion.inference import References
    >>> rng = np.random.default_rng(0)
    >>> seen = rng.standard_normal((40, 300))
    >>> references = References(seen, np.zeros((40, 300)), np.zeros(300), {"noise": rng.standard_normal((40, 300))})
    >>> weight, evidence = placebo_evidence(references)
    >>> weight < 0.05, evidence.ratio("zero")[0] < 1.05
    (True, True)
    """
    filled = references.without_own_genes()
    centred = {name: values - mean_of_others(values) for name, values in filled.predicted.items()}
    fit = left_out_fit(filled.with_predicted(centred))
    return float(fit.tuned.weight.sum()), _evidence(filled, fit.predicted, fit.control_weight)


def _evidence(references: References, predicted: np.ndarray, control_weight: float) -> Evidence:
    effect, seen, variance, control = references.effect, references.seen, references.variance, references.control_variance
    mistaken = np.sum(references.control_error.mistaken)  # in the error against the truth, not in that against the observation
    return Evidence(
        squared_errors(effect, predicted, variance, control, control_weight) + mistaken,
        squared_errors(seen, mean_of_others(seen), variance, references.seen_control_variance, 1.0),
        squared_errors(effect, np.zeros_like(effect), variance, control, 0.0) + mistaken,
    )
