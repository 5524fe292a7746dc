r"""The rectifier: prediction-powered inference with the perturbation as the unit.

Over K reference perturbations with observed effects :math:`\delta_i` and Q predictions :math:`m_{iq}` made as if i had
not been measured (cross-fitted), the effect of an unmeasured target is

.. math:: \hat\theta = \sum_q w_q m_{tq} + \rho \, \frac{1}{K} \sum_i \Big(\delta_i - \sum_q w_q m_{iq}\Big).

Weights :math:`w \ge 0` are tuned on the references, each predicted by the others (power tuning, pooled over genes);
:math:`\rho \in [0, 1]` shrinks the rectifier's mean towards "no effect". :math:`w = 0, \rho = 1` is the mean of the
references, one predictor with :math:`w = \rho = 1` is plain prediction-powered inference, :math:`w = \rho = 0` says zero.

All effects share the sampling error :math:`e_0` of the control mean. An error against an *observed* effect hides it, an
error against the truth does not: with :math:`a` the total weight of :math:`e_0` in the estimate, the risk against the truth
is the leave-one-out risk, minus the reference's own noise, plus :math:`(2a - 1)` times the squared norm of :math:`e_0`.
That is one draw for the whole screen, so tuning reckons with its expectation and one standard deviation: what the references
have in common is believed only beyond the control's chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.inference._between import KnownNoise, between_variance, left_out_between
from dbdiffusion.inference._estimate import Estimate
from dbdiffusion.inference._left_out_fit import left_out_fit
from dbdiffusion.inference._moderation import ErrorLaw, fit_error_law, fit_variance_prior
from dbdiffusion.inference._t_plus_normal import t_plus_normal

if TYPE_CHECKING:
    from dbdiffusion.inference._references import References
    from dbdiffusion.inference._tuning import Tuned

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
        (G,) what that adds to the error against the truth.
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
        control_variance=control_weight**2 * references.control_variance,
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
