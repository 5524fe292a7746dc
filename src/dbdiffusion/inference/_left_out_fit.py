"""Tuned weights, what they predict of every reference without it, and the slope of the truth on that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.inference._tuning import Tuned, Tuning

if TYPE_CHECKING:
    from dbdiffusion.inference._references import References


POSSIBLE_SHARES = (0.0, 0.5, 1.0)  # of the control's error, in a predictor for which it is not known


@dataclass(frozen=True)
class LeftOutFit:
    """Tuned weights, and what they predict of every reference without it.

    Parameters
    ----------
    tuned
        Of all references.
    shrinkage
        Slope that multiplies it all.
    control_weight
        Weight of the control's error in a prediction.
    control_weights
        The same, did predictors that carry a part of that error carry nothing, a half or all of it.
    predicted
        (K, G) left-out predictions.
    chosen, slope
        (K,) the choice without each reference, and the slope that multiplies what it predicts.
    """

    tuned: Tuned
    shrinkage: float
    control_weight: float
    control_weights: tuple[float, ...]
    predicted: np.ndarray
    chosen: tuple[Tuned, ...]
    slope: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """(Q,) of the predictors, the slope included."""
        return self.shrinkage * self.tuned.weight


def left_out_fit(references: References, lam: float | None = None, rho: float | None = None) -> LeftOutFit:
    """Tune on references whose own genes are filled; see :func:`fit_rectifier`."""
    tuning = Tuning(references, lam, rho)
    tuned = tuning.choose()
    predicted = references.effect - tuning.leave_one_out_errors()
    shares = references.control_shares
    control_weight, *others = (
        tuned.rho + (1 - tuned.rho) * float(tuned.weight @ carried)
        for carried in (shares, *(np.where(shares < 1, share, 1.0) for share in POSSIBLE_SHARES))
    )
    shrinkage, slope = 1.0, np.ones(len(predicted))
    if lam is None and rho is None:
        shrinkage, slope = _calibrated_slope(references, predicted, control_weight)
        predicted *= slope[:, None]
    shrunk = tuple(shrinkage * weight for weight in others)
    return LeftOutFit(tuned, shrinkage, shrinkage * control_weight, shrunk, predicted, tuning.chosen_without, slope)


def _calibrated_slope(references: References, loo_predicted: np.ndarray, control_weight: float) -> tuple[float, np.ndarray]:
    """Slope in [0, 1] of the truth on left-out predictions, and the same without each reference.

    Tuning is optimistic when references are few; its left-out predictions say by how much. The control's noise, which
    prediction and observation share, is taken out of their product.
    """
    agreement = references.likely_agreement(loo_predicted, control_weight)
    product = np.einsum("kg,kg->k", references.effect, loo_predicted, dtype=float) - agreement
    square = np.einsum("kg,kg->k", loo_predicted, loo_predicted, dtype=float)
    of_others = [_shrunk_slope(np.delete(product, i), np.delete(square, i)) for i in range(len(product))]
    return _shrunk_slope(product, square), np.array(of_others)


def _shrunk_slope(product: np.ndarray, square: np.ndarray) -> float:
    """Ratio in [0, 1] of sums over references, shrunk as far as few of them decide it.

    By one minus its jackknife variance over its square: what is least wrong, had the slope this size and this variance.
    """
    n, total = len(product), square.sum()
    if product.sum() <= 0:
        return 0.0
    slope = product.sum() / total
    left_out = (product.sum() - product) / np.maximum(total - square, 1e-9 * total)
    doubt = (n - 1) / n * float(((left_out - slope) ** 2).sum())
    return float(np.clip(slope * max(0.0, 1 - doubt / slope**2), 0, 1))
