"""Empirical Bayes over genes: variances borrow strength, and the shape of the errors is read off all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats


@dataclass(frozen=True)
class VariancePrior:
    """Scaled inverse chi-squared prior of gene variances.

    Parameters
    ----------
    scale
        s0².
    df
        d0; infinity means that all genes share one variance.
    """

    scale: float
    df: float

    def moderate(self, variance: np.ndarray, df: float) -> np.ndarray:
        """Posterior variances (d0 s0² + d s²) / (d0 + d)."""
        if np.isinf(self.df):
            return np.full_like(variance, self.scale)
        return (self.df * self.scale + df * variance) / (self.df + df)


def fit_variance_prior(variance: np.ndarray, df: float) -> VariancePrior:
    """Moments of log variances (limma's squeezeVar).

    Parameters
    ----------
    variance
        (G,) sample variances; zeros are left out.
    df
        Their degrees of freedom.

    References
    ----------
    Smyth, Stat Appl Genet Mol Biol 3 (2004).

    Examples
    --------
    >>> variances = stats.chi2(4).rvs(5000, random_state=0) / 4
    >>> prior = fit_variance_prior(variances, df=4)
    >>> bool(prior.df > 50), bool(0.9 < prior.scale < 1.1)
    (True, True)
    """
    positive = variance[variance > 0]
    if len(positive) < 2:
        return VariancePrior(float(positive.mean()) if len(positive) else 0.0, np.inf)
    z = np.log(positive)
    centred = z - special.digamma(df / 2) + np.log(df / 2)
    excess = z.var(ddof=1) - special.polygamma(1, df / 2)
    if excess <= 0:
        return VariancePrior(float(np.exp(centred.mean())), np.inf)
    half = _inverse_trigamma(float(excess))
    return VariancePrior(float(np.exp(centred.mean() + special.digamma(half) - np.log(half))), 2 * half)


def fit_t(
    error: np.ndarray, between: np.ndarray, noise: np.ndarray, max_values: int = 10_000
) -> tuple[float, float]:
    r"""Shape of what is left when the known sampling noise is taken out of errors, by maximum likelihood.

    Model: :math:`error = c \sqrt{between}\, t_\nu + \sqrt{noise}\, N(0, 1)`. A t is a scale mixture of normals, so the likelihood
    is a finite mixture over quantiles of the mixing gamma distribution.

    Parameters
    ----------
    error, between, noise
        Same shape: errors, the variance expected of their unknown part, and the variance of their known noise. A regular
        subset is used above ``max_values``; entries without any variance are left out.

    Returns
    -------
    df, scale
        :math:`\nu` between 2.1 and 100 and :math:`c` between .2 and 5.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> error = 2 * stats.t(4).rvs(20_000, random_state=0) + rng.standard_normal(20_000)
    >>> df, scale = fit_t(error, np.ones(20_000), np.ones(20_000))
    >>> bool(3 < df < 5.5), bool(1.85 < scale < 2.15)
    (True, True)
    """
    shape = error.shape
    error, between, noise = (np.broadcast_to(x, shape).ravel() for x in (error, between, noise))
    total = between + noise
    usable = np.flatnonzero((between > 0) & (total > 1e-6 * np.median(total[total > 0]) if (total > 0).any() else False))
    usable = usable[:: max(1, len(usable) // max_values)]
    if len(usable) < 100:
        return 100.0, 1.0
    square, between, noise = error[usable, None] ** 2, between[usable, None], noise[usable, None]
    quantiles = (np.arange(16) + 0.5) / 16

    def loss(log_parameters: np.ndarray) -> float:
        df, scale = np.exp(log_parameters)
        precision = stats.gamma.ppf(quantiles, df / 2, scale=2 / df)
        variance = scale**2 * between / precision + noise
        return -special.logsumexp(-0.5 * (np.log(variance) + square / variance), axis=1).mean()

    bounds = [(np.log(2.1), np.log(100.0)), (np.log(0.2), np.log(5.0))]
    fit = optimize.minimize(loss, np.log([8.0, 0.9]), method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
    df, scale = np.exp(fit.x)
    return float(df), float(scale)


def _inverse_trigamma(x: float) -> float:
    solution = optimize.brentq(lambda y: float(special.polygamma(1, np.exp(y))) - x, -20.0, 20.0)
    return float(np.exp(solution))
