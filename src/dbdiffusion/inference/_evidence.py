"""What left-out references promise: squared errors of the prediction, beside those of the mean and of no effect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.inference._left_out_fit import left_out_fit
from dbdiffusion.inference._references import mean_of_others
from dbdiffusion.metrics import error_ratio

if TYPE_CHECKING:
    from dbdiffusion.inference._rectifier import Rectifier
    from dbdiffusion.inference._references import References

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
    effect = references.effect
    errors = [
        squared_errors(effect, values, references.variance, references.control_variance, weight)
        for values, weight in ((predicted, control_weight), (mean_of_others(effect), 1.0), (np.zeros_like(effect), 0.0))
    ]
    return Evidence(*errors)
