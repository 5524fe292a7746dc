r"""The rectifier: prediction-powered inference with the perturbation as the unit.

Over K reference perturbations with observed effects :math:`\delta_i` and Q predictions :math:`m_{iq}` made as if i had
not been measured (cross-fitted), the effect of an unmeasured target is

.. math:: \hat\theta = \sum_q w_q m_{tq} + \rho \, \frac{1}{K} \sum_i \Big(\delta_i - \sum_q w_q m_{iq}\Big).

Weights :math:`w \ge 0` are tuned on the references, each predicted by the others (power tuning, pooled over genes);
:math:`\rho \in [0, 1]` shrinks the rectifier's mean towards "no effect". :math:`w = 0, \rho = 1` is the mean of the
references, one predictor with :math:`w = \rho = 1` is plain prediction-powered inference, :math:`w = \rho = 0` says zero.

All effects share the sampling error :math:`e_0` of the control mean. From ten references on, what all of them tell of it was
taken out (:meth:`References.corrected`), and the rest adds to the error of every target. With fewer, an error against an
*observed* effect hides it and an error against the truth does not: with :math:`a` the total weight of :math:`e_0` in the
estimate, the risk against the truth is the leave-one-out risk, minus the reference's own noise, plus :math:`(2a - 1)` times the
squared norm of :math:`e_0`. That is one draw for the whole screen, so tuning reckons with its expectation and one standard
deviation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special

from dbdiffusion.inference._estimate import Estimate, log_mixture, scale_mixture, slope_of_precision, t_plus_normal
from dbdiffusion.inference._tuning import left_out_fit

if TYPE_CHECKING:
    from dbdiffusion.inference._tuning import References, Tuned


# Empirical Bayes over genes: variances borrow strength, and the shape of the errors is read off all of them.


N_QUANTILES = 20
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
        return log_mixture(-0.5 * (np.log(variance) + error[..., None] ** 2 / variance), weights)[0]

    def slope(
        self, error: np.ndarray, between: np.ndarray, predicted: np.ndarray, noise: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Mean of :meth:`log_density` over entries (n,), and its slope by the logarithms of df, scale and kappa."""
        precision, weights = self.components()
        by_df = slope_of_precision(self.df, N_QUANTILES)
        grown = self.scale**2 * self.kappa**2 * predicted**2
        unknown = (self.variance(between, predicted)[:, None]) / precision
        variance = unknown + noise[:, None]
        squares = error[:, None] ** 2 / variance
        log_density, share = log_mixture(-0.5 * (np.log(variance) + squares), weights)
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


# Variance between perturbations: what of left-out errors is not the known noise of observations.


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


MIN_REFERENCES = 3  # below it no interval is given
MIN_REFERENCES_FOR_SHAPE = 10  # below it the t distribution's shape is not read off the references


@dataclass(frozen=True)
class Rectifier:
    """A fitted rectifier; :meth:`estimate` applies it to targets.

    Parameters
    ----------
    weights
        Predictor to weight.
    rho
        Weight of the rectifier's mean.
    residual
        (K, G) observed minus weighted prediction.
    residual_variance
        (G,) of one residual.
    tau
        (G,) standard deviation between perturbations around the prediction.
    control_weight
        Total weight a of the control's error in the estimate.
    control_weights
        What it would be, did predictors whose share is not known carry nothing, a half or all of it.
    control_variance
        (G,) what that error adds to the error against the truth.
    law
        Of the error of a new perturbation.
    n_reference
        K.
    spread_from
        (K,) references whose errors tell how far a target lies from its prediction.
    loo_error, loo_predicted, loo_between
        (K, G) leave-one-out errors against observed effects, the predictions they belong to, and the variance between
        perturbations as it is estimated without each reference.
    loo_chosen
        (K,) what is tuned without each reference, see :func:`left_out_rules`.

    Examples
    --------
    >>> from dbdiffusion.inference import References
    >>> seen = np.random.default_rng(0).standard_normal((20, 30))
    >>> references = References(seen, np.zeros((20, 30)), np.zeros(30), {"exact": seen})
    >>> rectifier = fit_rectifier(references)
    >>> estimate = rectifier.estimate({"exact": np.zeros((1, 30))})
    >>> low, high = estimate.interval(0.95)
    >>> estimate.effect.shape, bool((low < high).all())
    ((1, 30), True)
    """

    weights: dict[str, float]
    rho: float
    residual: np.ndarray
    residual_variance: np.ndarray
    tau: np.ndarray
    control_weight: float
    control_weights: tuple[float, ...]
    control_variance: np.ndarray
    law: ErrorLaw
    n_reference: int
    spread_from: np.ndarray
    loo_error: np.ndarray
    loo_predicted: np.ndarray
    loo_between: np.ndarray
    loo_chosen: tuple[Tuned, ...] = ()

    def estimate(
        self,
        predicted: dict[str, np.ndarray],
        noise: np.ndarray | float = 0.0,
        interval: str = "prediction",
    ) -> Estimate:
        """Rectified effects of T targets.

        Parameters
        ----------
        predicted
            Predictor to (T, G).
        noise
            Monte-Carlo variance of the predictions, broadcast to (T, G).
        interval
            ``"prediction"``: of a new perturbation. ``"mean"``: of the mean that the references estimate.

        Returns
        -------
        Estimate
            Without an error where there are fewer than three references.

        Raises
        ------
        ValueError
            For another word.
        """
        if interval not in ("prediction", "mean"):
            msg = f"`interval` must be 'prediction' or 'mean', got {interval!r}."
            raise ValueError(msg)
        n = self.n_reference
        effect = self.rho * self._mean_residual() + sum(w * predicted[name] for name, w in self.weights.items())
        between, between_df = self.rho**2 * self.residual_variance / max(n, 1), float(max(n - 1, 1))
        if interval == "prediction":
            between, between_df = self.law.variance(self.tau**2, effect), self.law.df
        se, df = t_plus_normal(between, np.broadcast_to(self.control_variance + noise, effect.shape), between_df)
        return Estimate(effect, se if n >= MIN_REFERENCES else np.full(effect.shape, np.nan), df)

    def known_noise(self, references: References) -> np.ndarray:
        """Known variance (K, G) of the references' left-out errors against observed effects."""
        return references.known_noise(self.control_weight, sum(self.weights.values()))

    def _mean_residual(self) -> np.ndarray:
        return self.residual.mean(axis=0) if self.n_reference else np.zeros(self.residual.shape[1])


def fit_rectifier(references: References, lam: float | None = None, rho: float | None = None) -> Rectifier:
    """Tune and fit a rectifier.

    The error law's degrees of freedom and scale are read off the standardised leave-one-out errors from ten references on.
    With fewer, degrees of freedom are those of the moderated variance, and the scale is 1.

    Parameters
    ----------
    references
        What was measured, and its cross-fitted predictions.
    lam
        Weight of the first predictor if not to be tuned: 0 is the mean of the references, 1 plain prediction-powered
        inference. The other predictors are then left out.
    rho
        Weight of the rectifier's mean if not to be tuned; 1 if only ``lam`` is given.

    Examples
    --------
    >>> from dbdiffusion.inference import References
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.standard_normal((20, 11))
    >>> references = References(truth, np.zeros((20, 11)), np.zeros(11), {"exact": truth})
    >>> rectifier = fit_rectifier(references)
    >>> round(rectifier.weights["exact"], 3), bool(rectifier.tau.max() < 1e-4)
    (1.0, True)
    """
    references = references.without_own_genes()
    n = len(references.effect)
    if n < MIN_REFERENCES:
        return _untuned(references)
    fit = left_out_fit(references, lam, rho)
    tuned, control_weight, loo_predicted = fit.tuned, fit.control_weight, fit.predicted
    residual = _residual(references, tuned.weight)
    loo_error = references.effect - loo_predicted
    spread = _spread_from(references, tuned.weight)
    part_weight, n_spread = float(tuned.weight.sum()), int(spread.sum())
    known = KnownNoise.of(references, control_weight, part_weight, spread)
    mean_square = (loo_error[spread] ** 2).mean(axis=0)
    prior = fit_variance_prior(mean_square, n_spread - 1)
    between = between_variance(mean_square, known, n_spread - 1, prior)
    loo_between = np.repeat(between[None], n, axis=0)
    loo_between[spread] = left_out_between(loo_error[spread], known, prior)
    law = ErrorLaw(float(1 / (1 / min(n_spread - 1 + prior.df, 1e6) + 1 / (n_spread - 1))), 1.0, 0.0)
    if n_spread >= MIN_REFERENCES_FOR_SHAPE:
        noise = references.known_noise(control_weight, part_weight)
        law = fit_error_law(*(values[spread] for values in (loo_error, loo_between, loo_predicted, noise)))
    return Rectifier(
        weights=dict(zip(references.predicted, map(float, tuned.weight), strict=True)),
        rho=tuned.rho,
        residual=residual,
        residual_variance=residual.var(axis=0, ddof=1),
        tau=np.sqrt(between),
        control_weight=control_weight,
        control_weights=fit.control_weights,
        control_variance=control_weight**2 * references.control_variance + references.control_error.mistaken,
        law=law,
        n_reference=n,
        spread_from=spread,
        loo_error=loo_error,
        loo_predicted=loo_predicted,
        loo_between=loo_between,
        loo_chosen=fit.chosen,
    )


def _spread_from(references: References, weight: np.ndarray) -> np.ndarray:
    """References (K,) that lie from their predictions as far as a target does.

    Those that nothing placed lie as far as any from the mean. Where predictors count, placed ones lie closer, so they alone
    tell the spread if they are enough to tell it; else all do, which is careful.
    """
    n = len(references.effect)
    placed = references.placed
    if placed is None or placed.all() or not weight.any() or placed.sum() < MIN_REFERENCES_FOR_SHAPE:
        return np.ones(n, dtype=bool)
    return placed


def _untuned(references: References) -> Rectifier:
    """Plain prediction-powered inference with the first predictor: too few references to tune, or for an interval."""
    n, n_genes = references.effect.shape
    weight = np.eye(1, len(references.predicted))[0]
    unknown, unknown_each = np.full(n_genes, np.nan), np.full((n, n_genes), np.nan)
    return Rectifier(
        weights=dict(zip(references.predicted, map(float, weight), strict=True)),
        rho=float(n > 0),
        residual=_residual(references, weight),
        residual_variance=unknown,
        tau=unknown,
        control_weight=float("nan"),
        control_weights=(),
        control_variance=unknown,
        law=ErrorLaw(np.nan, np.nan, np.nan),
        n_reference=n,
        spread_from=np.ones(n, dtype=bool),
        loo_error=unknown_each,
        loo_predicted=unknown_each,
        loo_between=unknown_each,
    )


def _residual(references: References, weight: np.ndarray) -> np.ndarray:
    residual = np.array(references.effect)
    for w, values in zip(weight, references.predicted.values(), strict=True):
        residual -= (w * values).astype(residual.dtype)
    return residual


# What an interval would have said of every reference, had it been the target.


N_GROUPS = 5


def leave_one_out(rectifier: Rectifier, references: References) -> Estimate:
    """Prediction intervals (K, G) of the references, each from what the others tell.

    Weights, shrinkage, reference set and the variance between perturbations are those found without the reference; the
    shape of the error law is fitted without its fifth of the references. Compare with observed effects, to whose noise
    (:meth:`References.known_noise`) they add.

    Parameters
    ----------
    rectifier
        Fitted to ``references``.
    references
        At least ten; with fewer the law is that of all of them.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier
    >>> rng = np.random.default_rng(0)
    >>> seen = rng.standard_normal((20, 50))
    >>> references = References(seen, np.zeros((20, 50)), np.zeros(50), {"useless": rng.standard_normal((20, 50))})
    >>> low, high = leave_one_out(fit_rectifier(references), references).interval(0.8)
    >>> bool(0.75 < ((low < seen) & (seen < high)).mean() < 0.85)
    True
    """
    n, n_genes = rectifier.loo_error.shape
    se, df = np.empty((n, n_genes)), np.empty((n, n_genes))
    group, noise = np.arange(n) % N_GROUPS, rectifier.known_noise(references)
    for g in np.unique(group):
        inside, others = group == g, group != g
        law = rectifier.law
        others = others & rectifier.spread_from
        if rectifier.spread_from.sum() >= MIN_REFERENCES_FOR_SHAPE:
            law = fit_error_law(
                rectifier.loo_error[others],
                rectifier.loo_between[others],
                rectifier.loo_predicted[others],
                noise[others],
            )
        se[inside] = np.sqrt(law.variance(rectifier.loo_between[inside], rectifier.loo_predicted[inside]))
        df[inside] = law.df
    return Estimate(rectifier.loo_predicted, se, df)
