r"""How often a predicted sign is wrong, read off the signs of left-out references.

An interval that holds an effect as often as it says does not tell how often the effect lies beyond zero. Errors are not alike
on both sides of a prediction: what is predicted too large lies nearer to zero, some perturbations are misplaced as a whole, so
that their signs are those of chance, and where the references say little, a prediction is mostly what they have in common by
chance. So the tail of the predictive law beyond zero is sharpened or blunted by a factor b, and mixed with a coin,

.. math:: \mathrm{lfsr} = \pi / 2 + (1 - \pi)\, P(t > b\, |\hat\theta| / se).

Both numbers are those of maximum likelihood for the signs of references that were predicted as if unseen. What is seen is a
noisy observation, whose sign may differ by its own error. That is known, so it is part of the likelihood: an observation
differs in sign with the probability that the law plus the noise lies beyond zero. Prediction and observation are contrasted
with different halves of the control cells, since agreement by the error of one control mean is none.

A gene without any effect disagrees half of the time and cannot be told from one whose sign is not known. So on a screen where
most genes do not change, lfsr is that of a sign that is wrong or of nothing, which is careful.

References
----------
Stephens, False discovery rates: a new deal, Biostatistics 18 (2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import optimize, special, stats

from dbdiffusion.inference._rectifier import MIN_REFERENCES_FOR_SHAPE
from dbdiffusion.inference._t_plus_normal import t_plus_normal

if TYPE_CHECKING:
    from dbdiffusion.inference._estimate import Estimate
    from dbdiffusion.inference._rectifier import Rectifier
    from dbdiffusion.inference._references import References

MAX_SIGNS = 20_000  # that are looked at: references are few, so more genes of them say little more
SHARPNESS_BOUNDS = (0.01, 5.0)
LEAST_LIKELY = 1e-6


@dataclass(frozen=True)
class SignLaw:
    """From standardised predictions to the chance that the sign is the other.

    Parameters
    ----------
    sharpness
        b, 1 for the predictive law as it is.
    misplaced
        pi, 0 for the predictive law as it is.

    Examples
    --------
    >>> SignLaw().wrong(np.array([0.0, 1.96]), np.array(np.inf)).round(3).tolist()
    [0.5, 0.025]
    >>> SignLaw(sharpness=1.0, misplaced=0.1).wrong(np.array([0.0, 9.0]), np.array(np.inf)).round(3).tolist()
    [0.5, 0.05]
    """

    sharpness: float = 1.0
    misplaced: float = 0.0

    def wrong(self, statistic: np.ndarray, df: np.ndarray) -> np.ndarray:
        """Chance of the other sign, of effects over standard errors; at most one half."""
        return self.misplaced / 2 + (1 - self.misplaced) * stats.t.sf(self.sharpness * np.abs(statistic), df)

    def lfsr(self, estimate: Estimate) -> np.ndarray:
        """Local false sign rate of every estimate; NaN where there is no standard error."""
        return self.wrong(estimate.statistic, estimate.df)


@dataclass(frozen=True)
class Signs:
    """Signs of left-out references, predicted and observed, all (n,).

    Parameters
    ----------
    reference
        Row of the reference.
    statistic, df
        Predicted effect over its standard error against the truth, and degrees of freedom.
    seen_statistic, seen_df
        The same against the observation.
    disagrees
        Whether the observed sign is another.
    """

    reference: np.ndarray
    statistic: np.ndarray
    df: np.ndarray
    seen_statistic: np.ndarray
    seen_df: np.ndarray
    disagrees: np.ndarray


def fit_sign_law(signs: Signs) -> SignLaw:
    """Maximum likelihood; with fewer than ten references the predictive law as it is.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z, normal = np.abs(rng.normal(0, 2, 20_000)), np.full(20_000, np.inf)
    >>> wrong = rng.uniform(size=20_000) < SignLaw(0.6, 0.1).wrong(z, normal)
    >>> law = fit_sign_law(Signs(np.arange(20_000) % 40, z, normal, z, normal, wrong))
    >>> round(law.sharpness, 1), round(law.misplaced, 1)
    (0.6, 0.1)
    """
    if len(np.unique(signs.reference)) < MIN_REFERENCES_FOR_SHAPE:
        return SignLaw()

    def law_of(parameters: np.ndarray) -> SignLaw:
        return SignLaw(float(np.exp(parameters[0])), float(special.expit(parameters[1])))

    def loss(parameters: np.ndarray) -> float:
        chance = np.clip(law_of(parameters).wrong(signs.seen_statistic, signs.seen_df), LEAST_LIKELY, 1 - LEAST_LIKELY)
        return -float(np.log(np.where(signs.disagrees, chance, 1 - chance)).mean())

    bounds = [tuple(np.log(SHARPNESS_BOUNDS)), (-7.0, 7.0)]
    return law_of(optimize.minimize(loss, np.array([0.0, -3.0]), method="L-BFGS-B", bounds=bounds).x)


def signs_of(rectifier: Rectifier, references: References, listable: np.ndarray, halves: Any) -> Signs:
    """Predicted and observed signs of references, each as if it had not been measured.

    Parameters
    ----------
    rectifier, references
        Fitted, and what it was fitted on.
    listable
        (G,) genes that enough cells express: the noise of others is not symmetric.
    halves
        Of the control cells, of the K references (:class:`~dbdiffusion.screen.ControlHalves`); None where the control mean
        has no error.
    """
    rows = np.flatnonzero(rectifier.spread_from)
    counted = (listable & ~references.is_own_gene)[rows]
    shifts = [(0.0, 0.0)] if halves is None else list(halves.subset(rows).shifts())
    rng, a = np.random.default_rng(0), rectifier.control_weight
    row, gene = np.nonzero(counted)
    unknown = rectifier.law.variance(rectifier.loo_between, rectifier.loo_predicted)
    own = references.variance + sum(rectifier.weights.values()) ** 2 * references.part_variance
    of_half = (1 if halves is None else 2) * references.control_variance  # half of the control cells, twice the noise
    parts = []
    for mine, others in shifts:
        chosen = np.sort(rng.permutation(len(row))[: MAX_SIGNS // len(shifts)])
        at, g = (rows[row[chosen]], gene[chosen])
        moved = rectifier.loo_predicted[at, g] + a * np.broadcast_to(mine, counted.shape)[row[chosen], g]
        seen = references.effect[at, g] + np.broadcast_to(others, counted.shape)[row[chosen], g]
        carried = a**2 * of_half[g]
        errors = [t_plus_normal(unknown[at, g], carried + more, rectifier.law.df) for more in (0.0, own[at, g] + of_half[g])]
        (se, df), (seen_se, seen_df) = errors
        size = np.abs(moved)
        parts.append((at, size / se, df, size / seen_se, seen_df, np.sign(moved) * seen <= 0))
    return Signs(*(np.concatenate(values) for values in zip(*parts, strict=True)))
