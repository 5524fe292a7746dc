"""Tuned weights, and what they predict of every reference without it."""

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
    control_weight
        Weight of the control's error in a prediction.
    control_weights
        The same, did predictors that carry a part of that error carry nothing, a half or all of it.
    predicted
        (K, G) left-out predictions.
    """

    tuned: Tuned
    control_weight: float
    control_weights: tuple[float, ...]
    predicted: np.ndarray


def left_out_fit(references: References, lam: float | None = None, rho: float | None = None) -> LeftOutFit:
    """Tune on references whose own genes are filled; see :func:`fit_rectifier`."""
    tuning = Tuning(references, lam, rho)
    tuned = tuning.choose()
    shares = references.control_shares
    control_weight, *others = (
        tuned.rho + (1 - tuned.rho) * float(tuned.weight @ carried)
        for carried in (shares, *(np.where(shares < 1, share, 1.0) for share in POSSIBLE_SHARES))
    )
    return LeftOutFit(tuned, control_weight, tuple(others), references.effect - tuning.leave_one_out_errors())
