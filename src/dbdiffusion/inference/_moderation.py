"""Empirical Bayes over genes: variances borrow strength, and the shape of the errors is read off all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from dbdiffusion.inference._t_plus_normal import scale_mixture

N_QUANTILES = 20
STEP = 1e-5  # of the logarithm of the degrees of freedom, for the slope
VARYING = 0.1  # of the mean variance: genes of less have no errors to speak of
MIN_DF, MAX_DF = 1.0, 100.0  # of the error law; with few references a bound of two was reached and intervals were too short


@dataclass(frozen=True)
class VariancePrior:
    """Scaled inverse chi-squared prior of gene variances.

    Parameters
    ----------
    scale
        s0².
    df
        d0; infinity means that all genes share one variance.

    Examples
    --------
    A variance of four degrees of freedom is drawn half of the way to the prior's:

    >>> VariancePrior(scale=1.0, df=4.0).moderate(np.array([3.0]), df=4.0).tolist()
    [2.0]
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
    >>> from scipy import stats
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


@dataclass(frozen=True)
class ErrorLaw:
    r"""Law of an unknown error of a prediction p: :math:`c \sqrt{between + \kappa^2 p^2}\, t_\nu`.

    Parameters
    ----------
    df, scale
        :math:`\nu` and c.
    kappa
        Errors grow with the size of the predicted effect; 0 means that they do not.

    Examples
    --------
    Errors that grow with the prediction:

    >>> ErrorLaw(df=5.0, scale=1.0, kappa=0.5).variance(np.array([1.0, 1.0]), np.array([0.0, 2.0])).tolist()
    [1.0, 2.0]
    """

    df: float
    scale: float
    kappa: float

    def variance(self, between: np.ndarray, predicted: np.ndarray) -> np.ndarray:
        """Squared scale of the error."""
        return self.scale**2 * (between + self.kappa**2 * predicted**2)

    def log_density(self, error: np.ndarray, between: np.ndarray, predicted: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Of errors to which known normal noise was added, up to a constant; all arguments broadcast."""
        precision, weights = self.components()
        variance = self.variance(between, predicted)[..., None] / precision + noise[..., None]
        return _log_mixture(-0.5 * (np.log(variance) + error[..., None] ** 2 / variance), weights)[0]

    def slope(
        self, error: np.ndarray, between: np.ndarray, predicted: np.ndarray, noise: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Mean of :meth:`log_density` over entries (n,), and its slope by the logarithms of df, scale and kappa."""
        precision, weights = self.components()
        by_df = np.log(scale_mixture(self.df * np.exp(STEP), N_QUANTILES)[0] / precision) / STEP
        grown = self.scale**2 * self.kappa**2 * predicted**2
        unknown = (self.variance(between, predicted)[:, None]) / precision
        variance = unknown + noise[:, None]
        squares = error[:, None] ** 2 / variance
        log_density, share = _log_mixture(-0.5 * (np.log(variance) + squares), weights)
        by_variance = 0.5 * share * (squares - 1) / variance
        of_scale = 2 * by_variance * unknown
        of_kappa = 2 * (by_variance / precision).sum(axis=1) * grown
        return float(log_density.mean()), np.array(
            [-0.5 * (of_scale.mean(axis=0) @ by_df), of_scale.sum(axis=1).mean(), of_kappa.mean()]
        )

    def components(self) -> tuple[np.ndarray, np.ndarray]:
        """Precisions and weights of the normals whose scale mixture the t is."""
        return scale_mixture(self.df, N_QUANTILES)


def fit_error_law(
    error: np.ndarray, between: np.ndarray, predicted: np.ndarray, noise: np.ndarray, max_values: int = 10_000
) -> ErrorLaw:
    r"""Law of what is left when the known sampling noise is taken out of errors (K, G), by maximum likelihood.

    Model: :math:`error = c \sqrt{between + \kappa^2 p^2}\, t_\nu + \sqrt{noise}\, N(0, 1)`. A t is a scale mixture of
    normals, so the likelihood is a finite mixture over quantiles of the mixing gamma distribution. Errors of one perturbation
    move together, so the scale rests on K of them and not on K x G. Not knowing it makes a normal error a t with K - 1 degrees
    of freedom, and the tails of a t heavier likewise: :math:`1 / \nu + 1 / (K - 1)` takes the place of :math:`1 / \nu`.
    The law is read off the genes that vary: those whose variance is at least a tenth of the mean; a gene that hardly any cell
    expresses has no errors to speak of.

    Parameters
    ----------
    error, between, predicted, noise
        (K, G), or broadcast: errors, the variance expected of their unknown part, what was predicted, and the variance of the
        known noise. A subset is used above ``max_values``.

    Examples
    --------
    >>> from scipy import stats
    >>> rng = np.random.default_rng(0)
    >>> error = 2 * stats.t(4).rvs((1000, 20), random_state=0) + rng.standard_normal((1000, 20))
    >>> one = np.ones(error.shape)
    >>> law = fit_error_law(error, one, 0 * one, one)
    >>> bool(3 < law.df < 5.5), bool(1.85 < law.scale < 2.15)
    (True, True)
    """
    unknown_scale = 1 / max(len(error) - 1, 1)
    sample = _subset(error.shape, 10 * max_values)
    error, between, predicted, noise = (
        np.broadcast_to(x, error.shape)[sample].astype(float) for x in (error, between, predicted, noise)
    )
    usable = those_that_vary(between, noise, max_values)
    if len(usable) < 100:
        return ErrorLaw(MAX_DF, 1.0, 0.0)
    error, between, predicted, noise = (x[usable] for x in (error, between, predicted, noise))

    def loss(log_parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = ErrorLaw(*map(float, np.exp(log_parameters))).slope(error, between, predicted, noise)
        return -value, -slope

    bounds = [(np.log(MIN_DF), np.log(MAX_DF)), (np.log(0.1), np.log(5.0)), (np.log(0.01), np.log(5.0))]
    fit = optimize.minimize(loss, np.log([8.0, 0.9, 0.3]), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
    df, scale, kappa = map(float, np.exp(fit.x))
    return ErrorLaw(1 / (1 / df + unknown_scale), scale, kappa)


def _log_mixture(log_density: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of components (..., C): the logarithm of their weighted sum, and the share of each in it."""
    largest = log_density.max(axis=-1, keepdims=True)
    share = weights * np.exp(log_density - largest)
    total = share.sum(axis=-1, keepdims=True)
    return (np.log(total) + largest)[..., 0], share / total


def those_that_vary(between: np.ndarray, noise: np.ndarray, at_most: int) -> np.ndarray:
    """Indices of entries (n,) whose variance is at least a tenth of the mean, evenly thinned to about so many.

    Examples
    --------
    >>> those_that_vary(np.array([1.0, 0.0, 0.01, 2.0]), np.zeros(4), at_most=10)
    array([0, 3])
    """
    total = between + noise
    usable = np.flatnonzero((between > 0) & (total > VARYING * total.mean()))
    return usable[:: max(1, len(usable) // at_most)]


def _subset(shape: tuple[int, ...], max_values: int) -> tuple[np.ndarray, ...]:
    """Indices of all entries, or of so many drawn at random."""
    size = int(np.prod(shape))
    flat = np.arange(size) if size <= max_values else np.random.default_rng(0).integers(0, size, max_values)
    return np.unravel_index(flat, shape)


def _inverse_trigamma(x: float) -> float:
    solution = optimize.brentq(lambda y: float(special.polygamma(1, np.exp(y))) - x, -20.0, 20.0)
    return float(np.exp(solution))
