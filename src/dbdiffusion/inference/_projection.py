r"""A question about one direction over genes: project first, then infer.

A direction w (G,) makes a scalar of every effect. For K references, each predicted as if it had not been measured,
:math:`m_i = w \cdot \hat\theta_i` stands beside :math:`y_i = w \cdot \delta_i`. However the genes' errors are correlated, the
scalars of a new perturbation like the references are exchangeable with theirs, and that is all that is used:

- **Interval** (jackknife+). With :math:`R_i = |y_i - m_i|` and :math:`m_{t,-i}` what the target is predicted without
  reference i, the ends are the :math:`\lceil (1 - \alpha)(K + 1) \rceil`-th smallest of :math:`m_{t,-i} + R_i` and likewise
  below. It holds the target with probability :math:`1 - 2 \alpha` whatever the predictor, and :math:`1 - \alpha` where
  leaving one reference out changes little. A level of :math:`1 - \alpha` needs :math:`K \ge 1 / \alpha - 1` references.
- **P-value** for "beyond c on this side" (conformal, clipped score): the references that were predicted at least as far out and
  did not get there, :math:`p_t = (1 + \#\{i : y_i \le c, m_i \ge m_t\}) / (K + 1)`. Benjamini-Hochberg over candidates then
  holds the false discovery rate. No p-value lies below 1 / (K + 1).

**The control's error is shared** by all :math:`y_i`, and partly by the predictions: one unlucky control mean moves every
reference beyond c. How large it may be along w is read off random halves of the control cells, which lie as far from their mean
as that mean from its expectation. Intervals and p-values are those of a random control mean: counts are means over its
quantiles. The claim is about the target against another control mean. A mean of p-values that share an error is not quite one:
where all that is seen is that error, the false discovery rate is up to twice the level. After :meth:`References.corrected` what
is left of it is small beside the noise of a reference, and the rate is the level.

The scalar of a reference holds the noise of its own cells. So the statements are about the target as it would be measured with
a reference's number of cells; about the effect itself intervals are too wide by that noise, and p-values approximate.

References
----------
Barber, Candes, Ramdas & Tibshirani, Predictive inference with the jackknife+, Ann Stat 49 (2021).
Jin & Candes, Selection by prediction with conformal p-values, JMLR 24 (2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from dbdiffusion.inference._estimate import Estimate, adjust_p_values, check_confidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbdiffusion.inference._rectifier import Rectifier
    from dbdiffusion.inference._tuning import References, Tuned

ALTERNATIVES = ("greater", "less", "two-sided")
N_NODES = 24  # quantiles of the control's error along a direction
ALIKE = 1e-9  # of the largest: a smaller difference between predictions is rounding
HEAD = (0.02, 0.05, 0.1, 0.2, 0.5)  # shares of the ranking whose precision is told


@dataclass(frozen=True)
class Projection:
    """K references along one direction.

    Parameters
    ----------
    predicted, observed
        (K,) left-out predictions and observations.
    control_sd
        (K,) standard deviation of the control's error in each observation; zero where it has none.
    control_df
        Degrees of freedom of that standard deviation.
    control_weight
        Of the control's error, the share that predictions carry.
    ranked
        (K,) by what references are ranked among each other; None: the left-out predictions themselves. They will not do where
        a mean of the others is in them: without a high reference the mean is low.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.standard_normal(39)
    >>> projection = Projection(truth, truth + 0.1 * rng.standard_normal(39), np.zeros(39))
    >>> low, high = projection.interval(np.array([2.0]), 0.9)
    >>> bool(1.7 < low[0] < 2 < high[0] < 2.3)
    True
    >>> projection.p_values(np.array([2.0, -2.0])).tolist()
    [0.025, 0.525]
    """

    predicted: np.ndarray
    observed: np.ndarray
    control_sd: np.ndarray
    control_df: float = np.inf
    control_weight: float = 0.0
    ranked: np.ndarray | None = None

    @property
    def ranks(self) -> np.ndarray:
        """(K,) ``ranked``, or the left-out predictions."""
        return self.predicted if self.ranked is None else self.ranked

    @property
    def n_reference(self) -> int:
        """K."""
        return len(self.observed)

    @property
    def resolution(self) -> float:
        """The least p-value, 1 / (K + 1)."""
        return 1 / (self.n_reference + 1)

    def interval(self, predicted: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Both ends (T,) of the jackknife+ interval; infinite where there are too few references for the confidence.

        Parameters
        ----------
        predicted
            (T, K), every target without each reference, see :class:`LeftOutRules`; or (T,), which takes it for granted that
            one reference changes nothing.
        confidence
            Strictly between 0 and 1.
        """
        check_confidence(confidence)
        centre = predicted[:, :, None] if predicted.ndim == 2 else predicted[:, None, None]
        residual = np.abs((self.observed - self.predicted)[:, None] + self._control_errors())
        n, n_nodes = residual.shape
        rank = int(np.ceil(confidence * (n + 1) * n_nodes - 1e-9))
        if rank > n * n_nodes:
            unbounded = np.full(len(predicted), np.inf)
            return -unbounded, unbounded
        low, high = np.empty(len(predicted)), np.empty(len(predicted))
        for i, row in enumerate(centre):
            low[i] = -np.partition((residual - row).ravel(), rank - 1)[rank - 1]
            high[i] = np.partition((residual + row).ravel(), rank - 1)[rank - 1]
        return low, high

    def p_values(self, predicted: np.ndarray, threshold: float = 0.0, alternative: str = "greater") -> np.ndarray:
        """Conformal p-values (T,) of "not beyond the threshold", means over control means that may have been.

        Parameters
        ----------
        predicted
            As in :meth:`interval`. Target and reference are compared as both are predicted without the reference; a target that
            is predicted like it, since nothing tells them apart, does not lie farther out. Nor does one that is not a number.
        threshold
            c. ``"greater"``: beyond is above c. ``"less"``: below c. ``"two-sided"``: farther than c from zero, on the side
            that is predicted; c must not be negative.
        alternative
            One of these three words.

        Raises
        ------
        ValueError
            For another word, or a negative threshold of two sides.
        """
        check_alternative(alternative, threshold)
        predicted = predicted if predicted.ndim == 2 else np.repeat(predicted[:, None], self.n_reference, axis=1)
        alike = ALIKE * max(np.nanmax(np.abs(values), initial=0) for values in (predicted, self.predicted))
        moves = self._control_errors().T  # (nodes, K), other control means: observations move one way, predictions the other
        count = np.zeros(len(predicted))
        for move in moves:
            moved = self.control_weight * move.mean()
            strength, beyond = _strength(self.predicted - moved, self.observed + move, threshold, alternative)
            asked = _strength(predicted - moved, predicted, threshold, alternative)[0]
            count += (~(asked - alike > strength) & ~beyond).sum(axis=1)
        return (1 + count / len(moves)) / (self.n_reference + 1)

    def head(self, threshold: float = 0.0, alternative: str = "greater") -> pd.DataFrame:
        """How many of the first of a ranking are beyond the threshold, read off the references ranked by their predictions.

        Returns
        -------
        DataFrame
            One row a share of the ranking that holds at least one reference: ``share``, ``n`` (references), ``precision``
            (of them beyond the threshold), ``se``, and ``chance`` (of all references).
        """
        check_alternative(alternative, threshold)
        moves = self._control_errors().T
        beyond = np.mean([_strength(self.ranks, self.observed + move, threshold, alternative)[1] for move in moves], axis=0)
        order = np.argsort(-_strength(self.ranks, self.observed, threshold, alternative)[0], kind="stable")
        rows = []
        for share in HEAD:
            n = round(share * self.n_reference)
            if n:
                precision = float(beyond[order[:n]].mean())
                se = np.sqrt((n * precision + 1) * (n - n * precision + 1) / ((n + 2) ** 2 * (n + 3)))  # of a beta
                rows.append({"share": share, "n": n, "precision": precision, "se": float(se), "chance": float(beyond.mean())})
        return pd.DataFrame(rows, columns=["share", "n", "precision", "se", "chance"])

    def hits_needed(self, n_candidates: int, level: float) -> int:
        """How many candidates must have the least p-value for any to pass Benjamini-Hochberg at a level."""
        return int(np.ceil(n_candidates * self.resolution / level - 1e-9))

    def can_tell_apart(self, level: float) -> int:
        """The longest list of candidates of which a single hit can pass at a level."""
        return int(np.floor(level * (self.n_reference + 1) + 1e-9))

    def said(self, n_candidates: int, level: float, confidence: float) -> list[str]:
        """Sentences about what this number of references cannot say; none where it can.

        Examples
        --------
        >>> none = np.zeros(48)
        >>> Projection(none, none, none).said(900, 0.2, 0.9)[0].split(":")[0]
        '48 references cannot single out one of 900 candidates at 20 %'
        """
        words = []
        least = int(np.ceil(1 / (1 - confidence) - 1 - 1e-9))
        if self.n_reference < least:
            words.append(
                f"An interval at {100 * confidence:g} % needs {least} references, and there are {self.n_reference}, so it is "
                f"unbounded: ask for a confidence of at most {np.floor(1000 * (1 - self.resolution)) / 1000:g}."
            )
        needed = self.hits_needed(n_candidates, level)
        if needed > 1:
            words.append(
                f"{self.n_reference} references cannot single out one of {n_candidates} candidates at {100 * level:g} %: the "
                f"least p-value is 1 / {self.n_reference + 1}, so at least {needed} must have it for any to pass. Name at most "
                f"{max(self.can_tell_apart(level), 1)} candidates, or go by the precision of the ranking's head."
            )
        return words

    def _control_errors(self) -> np.ndarray:
        """Quantiles (K, nodes) of how far other control means would move every observation; all move together."""
        if not self.control_sd.any():
            return np.zeros((self.n_reference, 1))
        nodes = stats.t.ppf((np.arange(N_NODES) + 0.5) / N_NODES, self.control_df)
        return self.control_sd[:, None] * nodes


# What targets would be predicted had each reference not been measured, along a direction.


@dataclass(frozen=True)
class LeftOutRules:
    """K rules of prediction, each without one reference.

    Weights, shrinkage and the rectifier's mean are those found without it; what the predictors say of targets stays.

    Parameters
    ----------
    rectifier
        Fitted to all references.
    references
        Own genes filled.
    chosen
        (K,) weights without each.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier
    >>> seen = np.random.default_rng(0).standard_normal((20, 30))
    >>> references = References(seen, np.zeros((20, 30)), np.zeros(30), {"exact": seen})
    >>> rules = left_out_rules(fit_rectifier(references), references)
    >>> len(rules.chosen)
    20
    """

    rectifier: Rectifier
    references: References
    chosen: tuple[Tuned, ...]

    @property
    def rows(self) -> np.ndarray:
        """Of the references whose errors tell how far a target may lie from its prediction."""
        return np.flatnonzero(self.rectifier.spread_from)

    def along(self, direction: np.ndarray, predicted: Mapping[str, np.ndarray]) -> np.ndarray:
        """Targets along a direction (T, references that count), predicted without each of them.

        Parameters
        ----------
        direction
            (G,) weights of the genes.
        predicted
            Predictor to (T, G), of the targets, as :meth:`References.of_targets` gives them.

        Raises
        ------
        ValueError
            If the direction has not G weights.
        """
        n_genes = self.references.effect.shape[1]
        if np.shape(direction) != (n_genes,):
            msg = f"A direction must have one weight a gene, ({n_genes},), got shape {np.shape(direction)}."
            raise ValueError(msg)
        observed = self.references.effect @ direction
        ours = np.stack([values @ direction for values in self.references.predicted.values()])  # (Q, K)
        theirs = np.stack([predicted[name] @ direction for name in self.references.predicted])  # (Q, T)
        answer = np.empty((theirs.shape[1], len(self.rows)))
        for column, i in enumerate(self.rows):
            tuned = self.chosen[i]
            residual = np.delete(observed - tuned.weight @ ours, i)
            answer[:, column] = tuned.weight @ theirs + tuned.rho * residual.mean()
        return answer


def left_out_rules(rectifier: Rectifier, references: References) -> LeftOutRules:
    """What was tuned without each reference, as rules for targets.

    Parameters
    ----------
    rectifier, references
        Fitted, and what it was fitted on, three references at least.

    Raises
    ------
    ValueError
        If nothing was tuned, with fewer than three.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier
    >>> rng = np.random.default_rng(0)
    >>> seen = rng.standard_normal((20, 50))
    >>> references = References(seen, np.zeros((20, 50)), np.zeros(50), {"exact": seen})
    >>> rules = left_out_rules(fit_rectifier(references), references)
    >>> rules.along(np.ones(50), {"exact": rng.standard_normal((2, 50))}).shape
    (2, 20)
    """
    if not rectifier.loo_chosen:
        msg = f"Nothing can be tuned without one of {rectifier.n_reference} references: at least three are needed."
        raise ValueError(msg)
    return LeftOutRules(rectifier, references.without_own_genes(), rectifier.loo_chosen)


def project(rules: LeftOutRules, direction: np.ndarray, halves: Any = None) -> Projection:
    """References along a direction: those whose errors tell how far a target may lie (``rules.rows``).

    Parameters
    ----------
    rules
        What targets would be predicted without each reference.
    direction
        (G,) weights of the genes. Genes that a reference itself hits have the mean effect of the others.
    halves
        Of the control cells, of the K references (:class:`~dbdiffusion.screen.ControlHalves`). None where the control mean has
        no error.

    Raises
    ------
    ValueError
        If the direction has not G weights.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier, left_out_rules
    >>> rng = np.random.default_rng(0)
    >>> seen = rng.standard_normal((20, 50))
    >>> references = References(seen, np.zeros((20, 50)), np.zeros(50), {"exact": seen})
    >>> rules = left_out_rules(fit_rectifier(references), references)
    >>> projection = project(rules, np.ones(50) / 50)
    >>> projection.n_reference, bool(np.abs(projection.predicted - projection.observed).max() < 0.05)
    (20, True)
    """
    rows, references = rules.rows, rules.references
    each = rules.along(direction, references.predicted)[rows]
    sd, df = np.zeros(len(rows)), np.inf
    if halves is not None:  # of that error, what is still in effects and predictions
        sd, df = control_spread(halves.subset(rows), direction * np.sqrt(references.control_error.left))
    predicted = rules.rectifier.loo_predicted[rows] @ direction
    ranked = predicted - each.mean(axis=0) + each.mean()
    return Projection(predicted, references.effect[rows] @ direction, sd, df, rules.rectifier.control_weight, ranked)


def control_spread(halves: Any, direction: np.ndarray) -> tuple[np.ndarray, float]:
    """Standard deviation (P,) of the control's error in effects along a direction, and its degrees of freedom.

    A random half of n cells lies as far from the mean of all as that mean from its expectation. Correlations between genes
    are in it, unlike in gene-wise variances.

    Examples
    --------
    >>> from dbdiffusion.screen import ControlHalves
    >>> first = np.random.default_rng(0).standard_normal((6, 1, 4))
    >>> sd, df = control_spread(ControlHalves(first, -first, np.ones((3, 1))), np.eye(4)[0])
    >>> sd.shape, df, bool(np.isclose(sd[0], np.sqrt((first[..., 0] ** 2).mean())))
    ((3,), 6.0, True)
    """
    of_batches = np.mean([(half @ direction) ** 2 for half in (halves.first, halves.second)], axis=(0, 1))
    return np.sqrt(halves.weight**2 @ of_batches), float(len(halves.first))


def observed_along(
    effect: np.ndarray,
    variance: np.ndarray,
    control_variance: np.ndarray,
    halves: Any,
    direction: np.ndarray,
    listable: np.ndarray | None = None,
) -> Estimate:
    """Measured perturbations along a direction, with the error that their number of cells leaves.

    Parameters
    ----------
    effect, variance, control_variance
        (P, G) observed effects, sampling variances of the perturbation's and of the control mean.
    halves
        Of the control cells, of the P. How much cells differ along the direction, correlations included, is read off them, and
        scaled by how the variances of perturbed and control means compare. None: there is no error to be had.
    direction
        (G,).
    listable
        (G,) genes that enough cells express; None means all. Of others halves of control may say that they never vary, so there
        is no error where they make up half of the noise. To ask each perturbation's own cells would favour chance.

    Examples
    --------
    >>> from dbdiffusion.screen import ControlHalves
    >>> first = np.random.default_rng(0).standard_normal((6, 1, 4))
    >>> one = np.ones((3, 4))
    >>> estimate = observed_along(one, 3 * one, one, ControlHalves(first, -first, np.ones((3, 1))), np.eye(4)[0])
    >>> estimate.effect.tolist(), bool(np.isclose(estimate.se[0], 2 * np.sqrt((first[..., 0] ** 2).mean())))
    ([1.0, 1.0, 1.0], True)
    """
    along = effect @ direction
    if halves is None:
        return Estimate(along, np.full(len(along), np.nan), np.full(len(along), np.nan))
    sd, df = control_spread(halves, direction)
    of_control = control_variance @ direction**2
    own = np.divide(variance @ direction**2, of_control, out=np.full(len(along), np.nan), where=of_control > 0)
    se = sd * np.sqrt(1 + own)
    if listable is not None:
        noise = (variance + control_variance) * direction**2
        se = np.where(noise[:, listable].sum(axis=1) > noise.sum(axis=1) / 2, se, np.nan)
    return Estimate(along, se, np.full(len(along), df))


def hits(p_value: np.ndarray) -> np.ndarray:
    """Q-values (T,) over candidates, Benjamini-Hochberg.

    Examples
    --------
    >>> hits(np.array([0.02, 0.02, 0.9, 0.9])).tolist()
    [0.04, 0.04, 0.9, 0.9]
    """
    return adjust_p_values(np.asarray(p_value, dtype=float))


def check_alternative(alternative: str, threshold: float) -> None:
    """Raise for a word that is none of the three, or a distance that cannot be one.

    Examples
    --------
    >>> check_alternative("greater", -0.1)
    """
    if alternative not in ALTERNATIVES:
        msg = f"`alternative` must be one of {list(ALTERNATIVES)}, got {alternative!r}."
        raise ValueError(msg)
    if not np.isfinite(threshold) or (alternative == "two-sided" and threshold < 0):
        least = ", 0 or more for two sides" * (alternative == "two-sided")
        msg = f"`threshold` must be a finite number{least}, got {threshold!r}."
        raise ValueError(msg)


def _strength(predicted: np.ndarray, observed: np.ndarray, threshold: float, alternative: str) -> tuple[np.ndarray, np.ndarray]:
    """How far out each is predicted, and whether it is beyond the threshold."""
    if alternative == "greater":
        return predicted, observed > threshold
    if alternative == "less":
        return -predicted, observed < threshold
    return np.abs(predicted), np.sign(predicted) * observed > threshold
