r"""The rectifier: prediction-powered inference with the perturbation as the unit.

Over K reference perturbations with observed effects :math:`\delta_i` and Q predictions :math:`m_{iq}` made as if i had
not been measured (cross-fitted), the effect of an unmeasured target is

.. math:: \hat\theta = \sum_q w_q m_{tq} + \rho \, \frac{1}{K} \sum_i \Big(\delta_i - \sum_q w_q m_{iq}\Big).

Weights :math:`w \ge 0` are tuned on the references, each predicted by the others (power tuning, pooled over genes);
:math:`\rho \in [0, 1]` shrinks the rectifier's mean towards "no effect". :math:`w = 0, \rho = 1` is the mean of the
references, one predictor with :math:`w = \rho = 1` is plain prediction-powered inference, :math:`w = \rho = 0` says zero.

All effects share the sampling error :math:`e_0` of the control mean. An error against an *observed* effect hides it, an
error against the truth does not: with :math:`a` the total weight of :math:`e_0` in the estimate, the risk against the truth
is the leave-one-out risk, minus the reference's own noise, plus :math:`(2a - 1)` times the variance of :math:`e_0`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from dbdiffusion.inference._estimate import Estimate
from dbdiffusion.inference._moderation import ErrorLaw, fit_error_law, fit_variance_prior

MIN_REFERENCES = 3  # below it no interval is given
MIN_REFERENCES_FOR_SHAPE = 10  # below it the t distribution's shape is not read off the references
RHO_GRID = tuple(np.linspace(0, 1, 11))


@dataclass(frozen=True)
class References:
    """K reference perturbations.

    Parameters
    ----------
    effect
        (K, G) observed.
    variance
        (K, G) sampling variance of the perturbation's own mean.
    control_variance
        (G,) sampling variance of the control mean, shared by all.
    predicted
        Predictor to (K, G), made as if the reference had not been measured.
    own_genes
        For every reference the columns of the genes it perturbs, which teach nothing about others.
    """

    effect: np.ndarray
    variance: np.ndarray
    control_variance: np.ndarray
    predicted: dict[str, np.ndarray]
    own_genes: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Rectifier:
    """A fitted rectifier; :meth:`estimate` applies it to targets.

    Parameters
    ----------
    weights
        Predictor to weight w.
    rho
        Weight of the rectifier's mean.
    mean_residual
        (G,) mean over references of observed minus weighted prediction.
    mean_variance
        (G,) error variance of the rectifier's mean alone.
    tau
        (G,) standard deviation between perturbations around the prediction.
    control_variance
        (G,) what the shared control noise adds to the error against the truth.
    law
        Of the error of a new perturbation.
    n_reference
        K.
    loo_error, loo_predicted
        (K, G) leave-one-out errors against observed effects, and the predictions they belong to.
    """

    weights: dict[str, float]
    rho: float
    mean_residual: np.ndarray
    mean_variance: np.ndarray
    tau: np.ndarray
    control_variance: np.ndarray
    law: ErrorLaw
    n_reference: int
    loo_error: np.ndarray
    loo_predicted: np.ndarray

    def estimate(
        self, predicted: dict[str, np.ndarray], noise: np.ndarray | float = 0.0, interval: str = "prediction"
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

        Raises
        ------
        ValueError
            For another word.
        """
        if interval not in ("prediction", "mean"):
            msg = f"`interval` must be 'prediction' or 'mean', got {interval!r}."
            raise ValueError(msg)
        effect = self.rho * self.mean_residual + sum(w * predicted[name] for name, w in self.weights.items())
        variance, df = self.mean_variance, float(max(self.n_reference - 1, 1))
        if interval == "prediction":
            variance, df = self.law.variance(self.tau**2, effect) + self.control_variance, self.law.df
        se = np.sqrt(np.broadcast_to(variance + noise, effect.shape))
        return Estimate(effect, se, np.full(effect.shape, df))


def fit_rectifier(
    references: References, lam: float | None = None, rho: float | None = None, shape: str = "fitted"
) -> Rectifier:
    """Tune and fit a rectifier.

    Parameters
    ----------
    references
        What was measured, and its cross-fitted predictions.
    lam
        Weight of every predictor if not to be tuned: 0 is the mean of the references, 1 plain prediction-powered inference.
    rho
        Weight of the rectifier's mean if not to be tuned.
    shape
        ``"fitted"``: degrees of freedom and scale are read off the standardised leave-one-out errors (from 10 references
        on). ``"moderated"``: degrees of freedom are those of the moderated variance, scale 1.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.standard_normal((20, 11))
    >>> references = References(truth, np.zeros((20, 11)), np.zeros(11), {"exact": truth})
    >>> rectifier = fit_rectifier(references)
    >>> round(rectifier.weights["exact"], 3), bool(rectifier.tau.max() < 1e-4)
    (1.0, True)
    """
    observed, predicted = _without_own_genes(references)
    n = len(observed)
    if n < MIN_REFERENCES:
        return _untuned(references, observed, predicted)
    tuning = _Tuning(observed, predicted, references.control_variance)
    chosen_rho, weight = tuning.choose(lam, rho)
    loo_error = tuning.leave_one_out_errors(lam, rho)
    control_weight = chosen_rho + (1 - chosen_rho) * weight.sum()
    noise = references.variance.mean(axis=0)
    spread, prior_df = _moderated_mean_square(loo_error)
    between = _between_variance(spread, noise)
    residual = observed - np.tensordot(weight, predicted, axes=1)
    shared = np.maximum((2 * control_weight - 1) * references.control_variance, 0)
    loo_predicted = observed - loo_error
    law = ErrorLaw(float(min(n - 1 + prior_df, 1e6)), 1.0, 0.0)
    if shape == "fitted" and n >= MIN_REFERENCES_FOR_SHAPE:
        law = fit_error_law(loo_error, _left_out_between(loo_error, noise), loo_predicted, references.variance)
    return Rectifier(
        weights=dict(zip(references.predicted, map(float, weight), strict=True)),
        rho=float(chosen_rho),
        mean_residual=residual.mean(axis=0),
        mean_variance=chosen_rho**2 * residual.var(axis=0, ddof=1) / n + shared,
        tau=np.sqrt(between),
        control_variance=shared,
        law=law,
        n_reference=n,
        loo_error=loo_error,
        loo_predicted=loo_predicted,
    )


def _untuned(references: References, observed: np.ndarray, predicted: np.ndarray) -> Rectifier:
    """Plain prediction-powered inference with the first predictor: too few references to tune, or for an interval."""
    n, n_genes = observed.shape
    weight = np.eye(1, len(predicted))[0]
    residual = observed - np.tensordot(weight, predicted, axes=1)
    unknown = np.full(n_genes, np.nan)
    return Rectifier(
        weights=dict(zip(references.predicted, map(float, weight), strict=True)),
        rho=float(n > 0),
        mean_residual=residual.mean(axis=0) if n else np.zeros(n_genes),
        mean_variance=unknown,
        tau=unknown,
        control_variance=unknown,
        law=ErrorLaw(np.nan, np.nan, np.nan),
        n_reference=n,
        loo_error=np.full(observed.shape, np.nan),
        loo_predicted=np.full(observed.shape, np.nan),
    )


class _Tuning:
    """Risk of (w, rho) against the truth, summed over genes, from Gram matrices: nothing of size K x G per candidate."""

    def __init__(self, observed: np.ndarray, predicted: np.ndarray, control_variance: np.ndarray) -> None:
        self._n = len(observed)
        self._vectors = np.concatenate([observed[None], predicted])  # (1 + Q, K, G)
        self._means = self._vectors.mean(axis=1)  # (1 + Q, G)
        self._control = float(control_variance.sum())
        self._own = np.einsum("akg,bkg->kab", self._vectors, self._vectors, optimize=True)
        self._cross = np.einsum("akg,bg->kab", self._vectors, self._means, optimize=True)
        self._mean_gram = self._means @ self._means.T

    def choose(self, lam: float | None, rho: float | None, without: int | None = None) -> tuple[float, np.ndarray]:
        """The (rho, w) of least risk, optionally without one reference."""
        best: tuple[float, float, np.ndarray] | None = None
        for candidate in RHO_GRID if rho is None else (rho,):
            gram = self._gram(candidate)
            total = gram.sum(axis=0) - (gram[without] if without is not None else 0)
            count = self._n - (without is not None)
            risk, weight = self._minimise(total, count, candidate, lam)
            if best is None or risk < best[0]:
                best = (risk, candidate, weight)
        assert best is not None
        return best[1], best[2]

    def leave_one_out_errors(self, lam: float | None, rho: float | None) -> np.ndarray:
        """Error (K, G) of every reference, predicted by the others with weights tuned on the others."""
        errors = np.empty(self._vectors.shape[1:])
        for i in range(self._n):
            chosen, weight = self.choose(lam, rho, without=i)
            left_out = self._left_out(i, chosen)
            errors[i] = left_out[0] - weight @ left_out[1:]
        return errors

    def _factors(self, rho: float) -> tuple[float, float]:
        """Own and mean coefficients of a vector minus rho times the mean of the others."""
        return 1 + rho / (self._n - 1), -rho * self._n / (self._n - 1)

    def _left_out(self, i: int, rho: float) -> np.ndarray:
        own, mean = self._factors(rho)
        return own * self._vectors[:, i] + mean * self._means

    def _gram(self, rho: float) -> np.ndarray:
        own, mean = self._factors(rho)
        cross = self._cross + self._cross.transpose(0, 2, 1)
        return own**2 * self._own + own * mean * cross + mean**2 * self._mean_gram

    def _minimise(self, gram: np.ndarray, count: int, rho: float, lam: float | None) -> tuple[float, np.ndarray]:
        quadratic, linear = gram[1:, 1:], gram[1:, 0] - count * (1 - rho) * self._control
        weight = np.full(len(linear), lam) if lam is not None else _non_negative_minimum(quadratic, linear)
        risk = gram[0, 0] - 2 * weight @ linear + weight @ quadratic @ weight + 2 * count * rho * self._control
        return float(risk), weight


def _non_negative_minimum(quadratic: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Minimiser of w'Aw - 2 w'b over w >= 0, with a whiff of ridge so that equal predictors share their weight."""
    if len(linear) == 0:
        return np.zeros(0)
    quadratic = quadratic + 1e-6 * max(np.trace(quadratic), 1e-300) * np.eye(len(linear))
    root = np.linalg.cholesky(quadratic)
    return optimize.nnls(root.T, np.linalg.solve(root, linear))[0]


def _without_own_genes(references: References) -> tuple[np.ndarray, np.ndarray]:
    """Observed (K, G) and predicted (Q, K, G), own genes replaced by the mean of those that do not hit them."""
    observed = np.array(references.effect, dtype=float)
    predicted = np.array([np.asarray(values, dtype=float) for values in references.predicted.values()])
    predicted = predicted.reshape(len(references.predicted), *observed.shape)
    hit = np.zeros(observed.shape, dtype=bool)
    for i, genes in enumerate(references.own_genes):
        hit[i, genes] = True
    if hit.any():
        others = ~hit / np.maximum((~hit).sum(axis=0), 1)
        observed = np.where(hit, (others * observed).sum(axis=0), observed)
        predicted = np.where(hit, (others * predicted).sum(axis=1, keepdims=True), predicted)
    return observed, predicted


def _moderated_mean_square(errors: np.ndarray) -> tuple[np.ndarray, float]:
    df = max(len(errors) - 1, 1)
    mean_square = (errors**2).mean(axis=0)
    prior = fit_variance_prior(mean_square, df)
    return prior.moderate(mean_square, df), prior.df


def _between_variance(spread: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """What of the moderated mean square is not the references' own sampling noise, never below a tenth of the pooled share."""
    share = np.clip(1 - noise.sum() / max(spread.sum(), 1e-300), 0, 1)
    return np.maximum(spread - noise, 0.1 * share * spread)


def _left_out_between(errors: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Between-perturbation variance (K, G) as it would be estimated without each reference."""
    n = len(errors)
    squares = errors**2
    total = squares.sum(axis=0)
    prior = fit_variance_prior(total / n, n - 1)
    return np.stack([_between_variance(prior.moderate((total - square) / (n - 1), n - 2), noise) for square in squares])
