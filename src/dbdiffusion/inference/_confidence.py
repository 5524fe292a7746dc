r"""How far to trust the prediction of a target, read off references that were predicted as if they had not been measured.

What a target's prediction is worth follows what is known without its cells: the size of the prediction, how much the measured
neighbours agree, and how similar the nearest one is. So the accuracy of left-out references is regressed on these three, and
the line is read at the target. Accuracy is the correlation of predicted and true effects over genes, and the share of right
signs among the first genes of the target. The truth is not known, but the observation is an independent, noisy look at it:

- the covariance of prediction and observation is that with the truth, once the error of the control mean, which both share, is
  taken out by contrasting them with one half of the control cells each; the variance of the truth is that of the observation
  less its known noise;
- a sign that agrees with the observation counts as right. A small true effect disagrees by chance: how often, the size of the
  observed effects of the listed genes tells beside their noise, and it is taken out. A gene that does not change counts one
  half, for the sign of nothing is neither.

Slopes are those of a ridge regression with a prior in natural units (one per unit of logarithm or cosine): where all references
are placed alike, differences between them are not blown up, and every target is said to be like the mean of the references.
An interval holds the left-out errors of the line (the jackknife of conformal inference), so it speaks of a new target like the
references.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from dbdiffusion.inference._rectifier import Rectifier
    from dbdiffusion.inference._tuning import References

FIRST = (20, 50)  # genes of which the share of right signs is told
MIN_REFERENCES_FOR_CONFIDENCE = 10
SLOPE_SD = 1.0
LARGEST_CORRELATION = 0.99
LEAST_TRUE_SHARE = 0.1  # of the variance of an observed effect over genes, whatever its noise is said to be
MOST_TURNED = 0.25  # share of the signs that noise is taken to turn: beyond, the rest says too little
NOTHING = 1e-6  # root mean square effect that is no effect


@dataclass(frozen=True)
class Expectation:
    """A line through the accuracy of K references, on an unbounded scale.

    Parameters
    ----------
    low, high
        (F,) smallest and largest feature of the references: beyond them the line goes on level.
    centre, mean
        (F,) of the features, and of the accuracy there.
    slope
        (F,).
    error
        (K,) left-out accuracy less what the line of the others said, sorted.
    """

    low: np.ndarray
    high: np.ndarray
    centre: np.ndarray
    mean: float
    slope: np.ndarray
    error: np.ndarray

    def at(self, features: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Expected accuracy (n,) and the ends of its interval, infinite where there are too few references for it."""
        line = self.mean + (np.clip(features, self.low, self.high) - self.centre) @ self.slope
        n = len(self.error)
        beyond = int((n + 1) * (1 - confidence) / 2)  # errors on either side that the interval leaves out, and one
        least, most = (-np.inf, np.inf) if beyond < 1 else (self.error[beyond - 1], self.error[n - beyond])
        return line, line + least, line + most


def fit_expectation(features: np.ndarray, accuracy: np.ndarray) -> Expectation:
    """Ridge regression of accuracy (K,) on features (K, F), and its left-out errors.

    Examples
    --------
    >>> size = np.linspace(0, 1, 40)[:, None]
    >>> expectation = fit_expectation(size, 2 * size[:, 0])
    >>> value, low, high = expectation.at(np.array([[0.5], [9.0]]), confidence=0.9)
    >>> bool(value[0].round(1) == 1), bool(value[1] < 2)  # beyond the references it says no more than at their end
    (True, True)
    """
    mean, slope = _line(features, accuracy)
    low, high, centre = (f(features, axis=0) for f in (np.min, np.max, np.mean))
    return Expectation(low, high, centre, mean, slope, np.sort(_left_out_errors(features, accuracy)))


@dataclass(frozen=True)
class Confidence:
    """What left-out references say of targets by the features of :func:`confidence_features`.

    Parameters
    ----------
    features
        (K, F) of the references.
    correlation
        (K,) of predicted and true effects, as far as known noise can be taken out.
    right
        Number of first genes to the share (K,) of right signs among them; without numbers that are not reached.

    Examples
    --------
    Predictions with large effects were the good ones:

    >>> features = np.column_stack([np.linspace(-3, 0, 30), np.zeros(30), np.zeros(30)])
    >>> confidence = Confidence(features, np.linspace(0.1, 0.9, 30), {})
    >>> said = confidence.expected(features[[2, 27]])
    >>> bool(said["correlation"][0] < 0.4 < 0.6 < said["correlation"][1])
    True
    """

    features: np.ndarray
    correlation: np.ndarray
    right: dict[int, np.ndarray]

    def expected(self, features: np.ndarray, confidence: float = 0.9) -> dict[str, np.ndarray]:
        """Expected accuracy (n,) at features (n, F): ``correlation``, ``right_20``, ``right_50``, with ``_low`` and ``_high``.

        Of a prediction of no effect nothing is said.

        Parameters
        ----------
        features
            Of targets, predicted as the references were.
        confidence
            Of the intervals, strictly between 0 and 1.
        """
        of_correlation = fit_expectation(self.features, np.arctanh(self.correlation))
        columns = _columns("correlation", of_correlation, features, confidence, np.tanh)
        for n, share in self.right.items():
            logit = np.log((n * share + 0.5) / (n * (1 - share) + 0.5))
            share_of = lambda x, n=n: np.clip(((n + 1) / (1 + np.exp(-x)) - 0.5) / n, 0, 1)  # noqa: E731
            name = f"right_{n}"
            columns |= _columns(name, fit_expectation(self.features, logit), features, confidence, share_of)
            columns[f"{name}_low"] = np.floor(n * columns[f"{name}_low"]) / n  # of so many genes only so many can be right
            columns[f"{name}_high"] = np.ceil(n * columns[f"{name}_high"]) / n
        says_something = features[:, 0] > np.log(NOTHING)
        return {name: np.where(says_something, values, np.nan) for name, values in columns.items()}

    def left_out(self, confidence: float = 0.9) -> dict[str, np.ndarray]:
        """The same columns (K,) for every reference, said by the others."""
        n = len(self.features)
        rows = [self.subset(np.delete(np.arange(n), i)).expected(self.features[[i]], confidence) for i in range(n)]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def subset(self, rows: np.ndarray) -> Self:
        """Some of the references."""
        right = {n: share[rows] for n, share in self.right.items()}
        return replace(self, features=self.features[rows], correlation=self.correlation[rows], right=right)


def confidence_features(effect: np.ndarray, coherence: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Features (n, 3) of predictions: log root mean square effect, log coherence, similarity.

    Parameters
    ----------
    effect
        (n, G) predicted, every one with the same weights.
    coherence
        (n,) of the neighbours, see :func:`~dbdiffusion.embedding.neighbour_coherence`.
    similarity
        (n,) cosine with the nearest reference; NaN, where it has no vector, counts as the mean of the others.

    Examples
    --------
    >>> confidence_features(np.ones((1, 5)), np.ones(1), np.array([0.25])).tolist()
    [[0.0, 0.0, 0.25]]
    """
    size = np.log(np.maximum(np.sqrt((effect**2).mean(axis=1)), NOTHING))
    known = np.isfinite(similarity)
    filled = np.where(known, similarity, similarity[known].mean() if known.any() else 0.0)
    return np.stack([size, np.log(coherence), filled], axis=1)


def fit_confidence(
    rectifier: Rectifier, references: References, similarity: np.ndarray, listable: np.ndarray, halves: Any = None
) -> Confidence | None:
    """What left-out references say of targets that the rectifier predicts; None with fewer than ten of them.

    Parameters
    ----------
    rectifier, references
        Fitted, and what it was fitted on; coherence must be known.
    similarity
        (K,) of every reference, had it not been measured, with the nearest of the others.
    listable
        (G,) genes that can be among the first.
    halves
        Of the control cells, of the K references (:class:`~dbdiffusion.screen.ControlHalves`); None where the control mean
        has no error.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier
    >>> rng, strength = np.random.default_rng(0), np.linspace(0.2, 3.0, 40)[:, None]
    >>> signal = strength * rng.standard_normal((40, 200))
    >>> seen = signal + rng.standard_normal((40, 200))  # strong ones are predicted well, weak ones are not
    >>> references = References(seen, np.zeros((40, 200)), np.zeros(200), {"some": signal}, coherence=np.ones(40))
    >>> confidence = fit_confidence(fit_rectifier(references), references, np.ones(40), np.ones(200, dtype=bool))
    >>> said = confidence.left_out()["correlation"]
    >>> bool(said[:10].mean() < 0.6), bool(said[-10:].mean() > 0.85)
    (True, True)
    """
    rows = np.flatnonzero(rectifier.spread_from)
    if len(rows) < MIN_REFERENCES_FOR_CONFIDENCE or references.coherence is None:
        return None
    filled = references.without_own_genes()
    effect = rectifier.estimate(filled.predicted).effect  # as targets are predicted: no weight left out
    features = confidence_features(effect, references.coherence, similarity)[rows]
    counted = ~references.is_own_gene[rows]
    predicted, observed = rectifier.loo_predicted[rows], references.seen[rows]
    control = references.seen_control_variance
    noise = references.variance[rows] + control
    can_be_first = counted & listable
    shifts = [(0.0, 0.0)] if halves is None else list(halves.subset(rows).shifts())
    covariance = np.zeros(len(rows))
    right = {n: np.zeros(len(rows)) for n in FIRST if can_be_first.sum(axis=1).min() >= n}
    for mine, others in shifts:
        moved, seen = predicted + rectifier.control_weight * references.control_error.left * mine, observed + others
        covariance += _covariance(moved, seen, counted) / len(shifts)
        of_seen = noise if halves is None else noise + control  # half of the control cells, twice the noise
        for n in right:
            first = _first(np.where(can_be_first, np.abs(moved), -1.0), n)
            right[n] += _right_share(np.sign(moved) * seen, of_seen, first) / len(shifts)
    of_truth = _true_variance(observed, noise, counted)
    scale = np.sqrt(_covariance(predicted, predicted, counted) * of_truth)
    correlation = np.divide(covariance, scale, out=np.zeros(len(rows)), where=scale > 0)
    return Confidence(features, np.clip(correlation, -LARGEST_CORRELATION, LARGEST_CORRELATION), right)


def _line(features: np.ndarray, accuracy: np.ndarray) -> tuple[float, np.ndarray]:
    """Accuracy at the mean of the features, and slopes whose prior is normal with a standard deviation of one."""
    centred, mean = features - features.mean(axis=0), accuracy.mean()
    gram = centred.T @ centred + _penalty(accuracy.var(ddof=1)) * np.eye(features.shape[1])
    return float(mean), np.linalg.solve(gram, centred.T @ (accuracy - mean))


def _left_out_errors(features: np.ndarray, accuracy: np.ndarray) -> np.ndarray:
    """Accuracy (K,) less what the line of the others says: level beyond their features.

    For all at once, since sums over the others are sums over all less one's own.
    """
    n = len(accuracy)
    x, y = features - features.mean(axis=0), accuracy - accuracy.mean()
    share = n / (n - 1)  # of the products of deviations, those from the mean of the others
    gram = x.T @ x - share * x[:, :, None] * x[:, None, :]
    variance = (y @ y - share * y**2) / (n - 2)
    cross = x.T @ y - share * x * y[:, None]
    slope = np.linalg.solve(gram + _penalty(variance)[:, None, None] * np.eye(x.shape[1]), cross[:, :, None])[:, :, 0]
    lowest, highest = np.sort(x, axis=0)[:2], np.sort(x, axis=0)[-2:]
    low, high = np.where(x <= lowest[0], lowest[1], lowest[0]), np.where(x >= highest[1], highest[0], highest[1])
    centre, mean = -x / (n - 1), -y / (n - 1)  # of the others
    return y - mean - ((np.clip(x, low, high) - centre) * slope).sum(axis=1)


def _penalty(variance: np.ndarray) -> np.ndarray:
    return (np.maximum(variance, 0) + 1e-12) / SLOPE_SD**2


def _columns(name: str, expectation: Expectation, features: np.ndarray, confidence: float, back: Any) -> dict[str, np.ndarray]:
    ends = map(back, expectation.at(features, confidence))
    return dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))


def _covariance(first: np.ndarray, second: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Of rows (n, G), over the counted genes of each."""
    n = counted.sum(axis=1)
    of_first, of_second = (np.where(counted, values, 0) for values in (first, second))
    return (of_first * of_second).sum(axis=1) / n - of_first.sum(axis=1) / n * of_second.sum(axis=1) / n


def _true_variance(observed: np.ndarray, noise: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """Of observed rows (n, G), their noise taken out."""
    total = _covariance(observed, observed, counted)
    return np.maximum(total - np.where(counted, noise, 0).sum(axis=1) / counted.sum(axis=1), LEAST_TRUE_SHARE * total)


def _right_share(agreement: np.ndarray, noise: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """Share (n,) of right signs among listed genes, from observed effects (n, G) that are positive where signs agree.

    Were all effects of a list of one size, that of their mean square less the noise, noise would turn so many signs.
    """
    size = listed.sum(axis=1)
    signal = np.where(listed, agreement**2 - noise, 0).sum(axis=1) / size
    turned = stats.norm.sf(np.sqrt(np.maximum(signal, 0)[:, None] / np.maximum(noise, 1e-300)))
    by_chance = np.minimum(np.where(listed, turned, 0).sum(axis=1) / size, MOST_TURNED)
    agrees = (listed & (agreement > 0)).sum(axis=1) / size
    return np.clip((agrees - by_chance) / (1 - 2 * by_chance), 0, 1)


def _first(score: np.ndarray, n: int) -> np.ndarray:
    """The n largest scores of every row; ties are in together."""
    return score >= np.partition(score, -n, axis=1)[:, [-n]]
