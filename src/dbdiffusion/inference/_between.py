"""Variance between perturbations: what of left-out errors is not the known noise of observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from dbdiffusion.inference._moderation import VariancePrior
    from dbdiffusion.inference._references import References

LEAST_SHARE = 0.1  # of that of all genes, which a gene of which nothing but noise is seen still has


@dataclass(frozen=True)
class KnownNoise:
    """Known noise of errors against observed effects, averaged over references.

    Parameters
    ----------
    variance
        (G,).
    common
        Summed over genes, the part that all references share: the control's.
    doubt
        Standard deviation of the squared norm of the noise.
    """

    variance: np.ndarray
    common: float
    doubt: float

    @classmethod
    def of(
        cls, references: References, control_weight: float, part_weight: float = 0.0, rows: np.ndarray | None = None
    ) -> KnownNoise:
        """Of all references or some rows, given the weights of the control's error and of parts in what is predicted."""
        control = references.control_noise(control_weight)
        variance = references.known_noise(control_weight, part_weight) - control
        variance = variance if rows is None else variance[rows]
        n, n_genes = variance.shape
        cv = max(references.control_norm_cv, np.sqrt(2 / n_genes))
        own = variance.mean(axis=0)
        common = float(control.sum())
        doubt = cv * np.hypot(own.sum() / np.sqrt(n), common)
        return cls(own + control, common, float(doubt))


def between_variance(mean_square: np.ndarray, known: KnownNoise, df: float, prior: VariancePrior) -> np.ndarray:
    """What of the mean square of errors is not the references' own sampling noise.

    Of every gene's moderated mean square, the share that is not noise is estimated by its posterior mean: shares are normal
    around that of all genes, as far as genes differ by more than chance, and positive. Where noise prevails most differences
    are chance. The share of all genes is never below its standard error, since an estimate of zero is no proof of zero, and no
    gene's below a tenth of it.
    """
    total = max(mean_square.sum(), 1e-300)
    overall = float(np.clip(1 - known.variance.sum() / total, min(known.doubt / total, 1), 1))
    common = known.common / total
    spread = np.maximum(prior.moderate(mean_square, df), 1e-300)
    share = 1 - known.variance / spread
    seen = np.average((share - overall) ** 2, weights=spread)
    chance = 2 * (df / (df + prior.df)) ** 2 * (max(1 - overall - common, 0.0) ** 2 / df + common**2)
    kept = max(0.0, 1 - chance / max(seen, 1e-300))
    share = positive_mean(overall + kept * (share - overall), np.sqrt(kept * chance))
    return np.maximum(share, LEAST_SHARE * overall) * spread


def left_out_between(errors: np.ndarray, known: KnownNoise, prior: VariancePrior) -> np.ndarray:
    """Between-perturbation variance (K, G) as it would be estimated without each reference."""
    n = len(errors)
    total = (errors**2).sum(axis=0)
    between = np.empty_like(errors)
    for i, error in enumerate(errors):
        between[i] = between_variance((total - error**2) / (n - 1), known, n - 2, prior)
    return between


def positive_mean(mean: np.ndarray, sd: float) -> np.ndarray:
    """Mean of normals that are known to be positive.

    Examples
    --------
    >>> positive_mean(np.array([-1.0, 0.0, 5.0]), 1.0).round(3)
    array([0.525, 0.798, 5.   ])
    """
    z = np.maximum(mean / max(sd, 1e-12), -30.0)  # beyond, the mean is zero for all that matters
    hazard = np.sqrt(2 / np.pi) / special.erfcx(-z / np.sqrt(2))  # density over distribution function
    return np.maximum(mean + sd * hazard, 0.0)
