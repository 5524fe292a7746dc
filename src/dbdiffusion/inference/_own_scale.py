"""How far a measured perturbation lies from its prediction as a whole, read off all its genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import interpolate, optimize, special

from dbdiffusion.inference._moderation import those_that_vary
from dbdiffusion.inference._rectifier import MIN_REFERENCES

if TYPE_CHECKING:
    from dbdiffusion.inference._moderation import ErrorLaw

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

    def log_prior(parameters: np.ndarray) -> np.ndarray:
        mean, log_spread = parameters
        density = -0.5 * ((np.log(FINE) - mean) / np.exp(log_spread)) ** 2
        return density - special.logsumexp(density)

    fit = optimize.minimize(
        lambda parameters: -special.logsumexp(evidence + log_prior(parameters), axis=1).sum(),
        np.array([0.0, np.log(0.5)]),
        method="L-BFGS-B",
        bounds=[(-1.0, 1.0), (np.log(0.1), np.log(1.5))],
    )
    posterior = special.softmax(evidence + log_prior(fit.x), axis=1)
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
