"""Measured perturbations with few cells: the observed contrast, shrunk towards the perturbation's own prediction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import interpolate, optimize, special, stats

from dbdiffusion.inference._estimate import PRECISE, Estimate, NullShare, welch_contrast
from dbdiffusion.inference._rectifier import MIN_REFERENCES, those_that_vary

if TYPE_CHECKING:
    from dbdiffusion.inference._rectifier import ErrorLaw


# How far a measured perturbation lies from its prediction as a whole, read off all its genes.


GRID = np.geomspace(0.15, 6.0, 15)  # scales, as multiples of the law's, at which the likelihood is computed
FINE = np.geomspace(GRID[0], GRID[-1], 200)  # and those at which it is interpolated
MAX_GENES = 1000  # of a perturbation, evenly spaced: more say little more, since genes move together


def own_scales(error: np.ndarray, between: np.ndarray, predicted: np.ndarray, noise: np.ndarray, law: ErrorLaw) -> np.ndarray:
    r"""Scale (n,) of each perturbation's errors beside that of the law of all.

    Errors of one perturbation move together: a strong one is far from its prediction in many genes at once. Its scale u_i is
    a posterior root mean square, empirical Bayes over perturbations: :math:`\log u_i \sim N(m, s^2)`, m and s by maximum
    likelihood, the likelihood of :math:`u_i` that of its errors under the law times u_i, convolved with the known noise. Genes
    are correlated, so the likelihood counts as that of so many independent genes as would make the errors of two perturbations
    as similar by chance as they are.

    Parameters
    ----------
    error, between, predicted, noise
        (n, G) errors of left-out predictions, the variance expected of their unknown part, what was predicted, and the
        variance of the known noise.
    law
        Of all perturbations.

    Returns
    -------
    np.ndarray
        (n,) ones where there are fewer than three perturbations.

    Examples
    --------
    >>> from dbdiffusion.inference import ErrorLaw
    >>> rng, one = np.random.default_rng(0), np.ones((20, 200))
    >>> strength = np.where(np.arange(20) < 4, 3.0, 1.0)
    >>> error = strength[:, None] * rng.standard_normal((20, 200))
    >>> scales = own_scales(error, one, 0 * one, 0.01 * one, ErrorLaw(df=50.0, scale=1.0, kappa=0.0))
    >>> bool(abs(scales[:4].mean() - 3) < 0.3), bool(abs(scales[4:].mean() - 1) < 0.1)
    (True, True)
    """
    if len(error) < MIN_REFERENCES:
        return np.ones(len(error))
    n_genes = effective_number_of_genes(error / np.sqrt(np.maximum(law.variance(between, predicted) + noise, 1e-300)))
    coarse = [_mean_log_likelihood(*row, law) for row in zip(error, between, predicted, noise, strict=True)]
    evidence = n_genes * interpolate.CubicSpline(np.log(GRID), np.stack(coarse), axis=1)(np.log(FINE))

    def log_posterior(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        standard = (np.log(FINE) - parameters[0]) / np.exp(parameters[1])
        log_prior = special.log_softmax(-0.5 * standard**2)
        return evidence + log_prior, np.exp(log_prior), standard

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        joint, prior, standard = log_posterior(parameters)
        surprise = special.softmax(joint, axis=1).sum(axis=0) - len(joint) * prior
        slope = np.array([surprise @ standard / np.exp(parameters[1]), surprise @ standard**2])
        return -float(special.logsumexp(joint, axis=1).sum()), -slope

    fit = optimize.minimize(
        loss,
        np.array([0.0, np.log(0.5)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-1.0, 1.0), (np.log(0.1), np.log(1.5))],
        options=PRECISE,
    )
    posterior = special.softmax(log_posterior(fit.x)[0], axis=1)
    return np.sqrt(posterior @ FINE**2)


def effective_number_of_genes(standardised: np.ndarray) -> float:
    """So many independent genes would make errors (n, G) of two perturbations as similar by chance as they are.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> independent = rng.standard_normal((30, 100))
    >>> bool(85 < effective_number_of_genes(independent) <= 100)
    True
    >>> bool(85 < effective_number_of_genes(np.repeat(independent, 5, axis=1)) <= 101)
    True
    """
    n, n_genes = standardised.shape
    centred = standardised - standardised.mean(axis=0)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    direction = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    off_diagonal = float(((direction @ direction.T) ** 2).sum()) - float(np.count_nonzero(length))
    return float(np.clip(n * (n - 1) / max(off_diagonal, 1e-300), 1.0, n_genes))


def _mean_log_likelihood(
    error: np.ndarray, between: np.ndarray, predicted: np.ndarray, noise: np.ndarray, law: ErrorLaw
) -> np.ndarray:
    """Of a perturbation's errors (G,) under every scale of the grid, averaged over genes that vary."""
    usable = those_that_vary(between, noise, MAX_GENES)
    if len(usable) == 0:
        return np.zeros(len(GRID))
    error, between, predicted, noise = (x[usable, None] for x in (error, between, predicted, noise))
    return law.log_density(error, between * GRID**2, predicted * GRID, noise).mean(axis=0)


GOLDEN = 0.6180339887
N_NULL = 30  # statistics on either side at which the null distribution of shrunk p-values is looked up


@dataclass(frozen=True)
class Prior:
    r"""What is known of measured effects without looking at them.

    Parameters
    ----------
    predicted, between
        (n, G) cross-fitted predictions and :math:`\tau^2`, both made without the perturbation itself.
    law
        Of the predictions' errors.
    control_weight
        a, see :class:`Rectifier`.
    own_scale
        u, (n,) scale of each perturbation's own errors beside the law's, see :func:`own_scales`.

    Examples
    --------
    >>> from dbdiffusion.inference import ErrorLaw
    >>> one, law = np.ones((2, 3)), ErrorLaw(df=5.0, scale=1.0, kappa=0.0)
    >>> Prior(0 * one, one, law, own_scale=np.array([1.0, 2.0])).variance()[:, 0]
    array([1., 4.])
    """

    predicted: np.ndarray
    between: np.ndarray
    law: ErrorLaw
    control_weight: float = 1.0
    own_scale: np.ndarray | float = 1.0

    def variance(self) -> np.ndarray:
        """Squared scale (n, G) of the t around the predictions."""
        return self.law.variance(self.between, self.predicted) * np.reshape(self.own_scale, (-1, 1)) ** 2

    def of(self, row: int) -> Prior:
        """The same of one perturbation, (1, G)."""
        own = np.broadcast_to(self.own_scale, len(self.predicted))[row : row + 1]
        return replace(self, predicted=self.predicted[[row]], between=self.between[[row]], own_scale=own)


def shrunk_contrast(
    effect: np.ndarray,
    variance: np.ndarray,
    control_variance: np.ndarray,
    df: np.ndarray,
    control_df: float,
    prior: Prior,
) -> Estimate:
    r"""Empirical-Bayes estimate of measured effects.

    The prediction's error law is the prior, :math:`\theta \sim p + u c \sqrt{\tau^2 + \kappa^2 p^2}\, t_\nu`, and the observed
    effect is normal around :math:`\theta` with its own sampling variance v. A t is a scale mixture of normals, so mean and
    variance of the posterior are sums over its components. The control's sampling error, one draw of variance :math:`V_0`,
    is in the observation, and a times it in the prediction. So a component of variance c moves the prediction by
    :math:`(c - a (1 - a) V_0) / (c + v + (1 - a)^2 V_0)` of the difference and has the posterior variance
    :math:`(c (v + V_0) + a^2 V_0 v) / (c + v + (1 - a)^2 V_0)`.

    Parameters
    ----------
    effect, variance, control_variance, df, control_df
        As in :func:`welch_contrast`, (n, G).
    prior
        Of the same perturbations.

    Returns
    -------
    Estimate
        With Welch's degrees of freedom. As the sampling variance goes to zero it is the observed contrast, as it grows it
        is the prediction.

    Examples
    --------
    >>> from dbdiffusion.inference import ErrorLaw
    >>> one, law = np.ones((1, 1)), ErrorLaw(df=100.0, scale=1.0, kappa=0.0)
    >>> answer = shrunk_contrast(2 * one, one, 0 * one, np.array([10]), 10, Prior(0 * one, one, law))
    >>> float(answer.effect[0, 0].round(1)), float(answer.se[0, 0].round(1))
    (1.0, 0.7)
    """
    plain = welch_contrast(effect, variance, control_variance, df, control_df)
    unknown, a = prior.variance(), prior.control_weight
    carried, shared = a**2 * control_variance, a * (1 - a) * control_variance
    noise, observed = variance + (1 - a) ** 2 * control_variance, variance + control_variance
    difference = effect - prior.predicted
    total, mean, square = (np.zeros_like(difference) for _ in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        for precision, weight in zip(*prior.law.components(), strict=True):
            component = unknown / precision
            of_difference = component + noise
            uncertain = of_difference > 0
            gain = np.where(uncertain, (component - shared) / of_difference, 1.0)
            left = np.where(uncertain, (component * observed + carried * variance) / of_difference, carried)
            density = weight * np.exp(-0.5 * difference**2 / of_difference) / np.sqrt(of_difference)
            density = np.where(uncertain, density, 1.0)
            total += density
            mean += density * gain
            square += density * (left + (gain * difference) ** 2)
        far = total <= 1e-290  # where no component reaches the observation, the observation is right
        mean = np.where(far, 1.0, mean / total) * difference
        posterior = np.where(far, observed, square / total - mean**2)
    se = np.sqrt(np.maximum(posterior, 0))
    known = np.isfinite(plain.se) & np.isfinite(se)
    return Estimate(np.where(known, prior.predicted + mean, effect), np.where(known, se, plain.se), plain.df)


def shrunk_null(
    variance: np.ndarray,
    control_variance: np.ndarray,
    df: np.ndarray,
    control_df: float,
    prior: Prior,
    tested: np.ndarray | None = None,
) -> list[NullShare]:
    """How many shrunk p-values would lie below a threshold in each of n perturbations, had none of its genes changed.

    A shrunk p-value is small where the prediction is large and the gene agrees, so it is not uniform without an effect. The
    prediction is made without the perturbation's cells; given it, the observed effect of an unchanged gene is a t times its
    standard error, and the shrunk p-values that this gives are looked up on a grid.

    Parameters
    ----------
    variance, control_variance, df, control_df, prior
        As in :func:`shrunk_contrast`.
    tested
        (n, G) which genes have a p-value; None means all.

    Examples
    --------
    >>> from dbdiffusion.inference import ErrorLaw
    >>> one, law = np.ones((1, 50)), ErrorLaw(df=100.0, scale=1.0, kappa=0.0)
    >>> null = shrunk_null(one, 0 * one, np.array([10]), 10, Prior(0 * one, 1e6 * one, law))[0]
    >>> null.below(np.array([0.5, 1.0])).round(0).tolist()  # 50 genes, a prior that says nothing: uniform
    [25.0, 50.0]
    """
    plain = welch_contrast(np.zeros_like(variance), variance, control_variance, df, control_df)
    tail = np.geomspace(1e-7, 0.5, N_NULL)
    edges = np.concatenate([tail, 1 - tail[-2::-1]])  # of the null distribution's probability, fine in both tails
    mass = np.diff(edges)
    within = (0.5 + GOLDEN * np.arange(variance.shape[1])) % 1  # genes look the grid's shares up at different places
    nulls = []
    for i in range(len(variance)):
        row = slice(i, i + 1)
        effect = stats.t.ppf(edges[:-1, None] + within * mass[:, None], plain.df[row]) * plain.se[row]
        errors = (variance[row], control_variance[row], df[row], control_df)
        shrunk = shrunk_contrast(effect, *errors, prior.of(i)).p_value()[:, slice(None) if tested is None else tested[i]]
        order = np.argsort(shrunk, axis=None)
        share = np.broadcast_to(mass[:, None], shrunk.shape).ravel()
        nulls.append(NullShare(shrunk.ravel()[order], np.cumsum(share[order])))
    return nulls
