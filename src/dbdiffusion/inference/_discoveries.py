r"""Gene lists for perturbations nobody measured, of which at most a stated share is wrong.

Every reference is predicted as if it had not been measured, and its list is held against what was observed. A call is *false*
if the effect is zero or has the other sign. The observation is an independent, noisy look at it: where nothing changed its
sign disagrees half of the time, where the sign is wrong more often. So with :math:`D_i(t)` disagreements among the
:math:`|A_i(t)|` genes whose score is at least t,

.. math:: L_i(t) = 2 D_i(t) / \max(1, |A_i(t)|) \in [0, 2]

is in expectation at least the false sign proportion of the list. Made monotone one by one, losses of K references control the
proportion for a new perturbation like them (conformal risk control):

.. math:: q(t) = \Big(\sum_i \max_{t' \ge t} L_i(t') + 2\Big) / (K + 1).

The expectation is over targets, an empty list counted as right. So a threshold must do more: the lists that all references
have at it, taken together, must not be wrong more often than the level. A list is the longest that meets both. A gene
without a predicted effect has no sign that could be right, so it is in no list.

References
----------
Angelopoulos, Bates, Fisch, Lei & Schuster, Conformal risk control, ICLR 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dbdiffusion.inference._rectifier import Rectifier
    from dbdiffusion.inference._tuning import References


LEAST_LISTED = 10  # genes: one wrong one ruins a shorter list, and the bound pays for every list that can be given
N_THRESHOLDS = 1024
LARGEST_LOSS = 2.0


@dataclass(frozen=True)
class DiscoveryRule:
    """What lists of K left-out references were worth, threshold by threshold.

    Parameters
    ----------
    threshold
        (n,) of scores, rising.
    loss
        (shares, K, n) monotone losses, for every share of the control's error that the prediction may carry.
    size
        (K, n) genes listed, mean over splits of the control cells.
    wrong
        (shares, K, n) disagreements, likewise.
    smallest
        Effect of interest: a gene with a predicted effect of at most this size is in no list.
    noise
        (G,) of the genes, see :func:`scores`.

    Examples
    --------
    Two references, and two thresholds of which the higher makes fewer mistakes:

    >>> loss = np.array([[[0.5, 0.0], [0.3, 0.1]]])
    >>> rule = DiscoveryRule(np.array([1.0, 2.0]), loss, np.ones((2, 2)), loss)
    >>> rule.n_reference, round(float(rule.least_promise), 3)
    (2, 0.667)
    """

    threshold: np.ndarray
    loss: np.ndarray
    size: np.ndarray
    wrong: np.ndarray
    smallest: float = 0.0
    noise: np.ndarray | float = 1.0

    @property
    def n_reference(self) -> int:
        """K."""
        return self.loss.shape[1]

    @property
    def least_promise(self) -> float:
        """Smallest level at which there can be a list, 2 / (K + 1)."""
        return LARGEST_LOSS / (self.n_reference + 1)

    @property
    def rate(self) -> np.ndarray:
        """(n,) level from which on genes with a score at the threshold are listed; falls as the threshold rises."""
        loss, wrong, listed = self._totals
        return _rate(loss, wrong, listed, self.n_reference)

    def q_values(self, predicted: np.ndarray, listable: np.ndarray, coherence: np.ndarray | None = None) -> np.ndarray:
        """Q-values (T, G) of genes by their predicted effects (T, G); at most 1, NaN where a gene cannot be listed.

        A target's list has at least ten genes, so its first ten have the q-value of the tenth. ``coherence`` (T,) as in
        :func:`scores`.
        """
        return self._looked_up(self.rate, predicted, listable, coherence)

    def left_out_q_values(self, predicted: np.ndarray, listable: np.ndarray, coherence: np.ndarray | None = None) -> np.ndarray:
        """Q-values (K, G) of the references, each by what the others say."""
        q = np.empty(predicted.shape)
        all_loss, all_wrong, all_listed = self._totals
        for i, (loss, wrong, listed) in enumerate(zip(*self._of_each, strict=True)):
            rate = _rate(all_loss - loss, all_wrong - wrong, all_listed - listed, self.n_reference - 1)
            agreement = None if coherence is None else coherence[[i]]
            q[[i]] = self._looked_up(rate, predicted[[i]], listable[[i]], agreement)
        return q

    @property
    def _of_each(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Losses and disagreements (K, shares, n), and genes listed (K, n), of lists that are long enough to be given."""
        given = self.size >= LEAST_LISTED
        listed, wrong = np.where(given, self.size, 0), np.where(given, self.wrong, 0)
        return self.loss.swapaxes(0, 1), wrong.swapaxes(0, 1), listed

    @cached_property
    def _totals(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Their sums over references."""
        loss, wrong, listed = self._of_each
        return loss.sum(axis=0), wrong.sum(axis=0), listed.sum(axis=0)

    def _looked_up(
        self, rate: np.ndarray, predicted: np.ndarray, listable: np.ndarray, coherence: np.ndarray | None
    ) -> np.ndarray:
        inside = np.where(listable & (np.abs(predicted) > self.smallest), scores(predicted, coherence, self.noise), -np.inf)
        tenth = np.partition(inside, -LEAST_LISTED, axis=1)[:, -LEAST_LISTED] if inside.shape[1] >= LEAST_LISTED else -np.inf
        at = np.minimum(inside, np.broadcast_to(tenth, len(inside))[:, None])
        index = np.searchsorted(self.threshold, at, side="right") - 1
        return np.where(listable, np.minimum(np.append(rate, 1.0), 1.0)[index], np.nan)  # index -1: below all thresholds


def fit_discoveries(
    predicted: np.ndarray,
    observed: np.ndarray,
    listable: np.ndarray,
    coherence: np.ndarray | None = None,
    shifts: Sequence[tuple[np.ndarray | float, np.ndarray | float]] = ((0.0, 0.0),),
    control_weights: Sequence[float | np.ndarray] = (0.0,),
    smallest: float = 0.0,
    noise: np.ndarray | float = 1.0,
) -> DiscoveryRule:
    """Hold the lists of left-out references against what was observed.

    Parameters
    ----------
    predicted
        (K, G), each reference as if it had not been measured.
    observed
        (K, G).
    listable
        (K, G) genes that may be listed: enough cells express them, and the perturbation does not hit them.
    coherence
        (K,) see :func:`scores`.
    shifts
        For every split of the control cells, what a prediction of weight one, (G,), and the observations, (K, G), change by:
        each is contrasted with another half, since agreement by the error of one control mean is none. No change where it has
        no error. See :meth:`~dbdiffusion.screen.ControlHalves.shifts`.
    control_weights
        Weights of the control's error in a prediction that are to be reckoned with, each a number or (G,); the worst counts.
    smallest
        Effect of interest: a call is false if the effect is not beyond it on the predicted side.
    noise
        (G,) see :func:`scores`.

    Examples
    --------
    >>> truth = np.random.default_rng(0).standard_normal((40, 60))
    >>> rule = fit_discoveries(truth, truth, np.ones((40, 60), dtype=bool))
    >>> q = rule.q_values(truth[:1], np.ones((1, 60), dtype=bool))
    >>> float(q.max().round(3))  # no sign is wrong: two over K + 1
    0.049
    """
    scale = _sureness(coherence, noise)
    threshold = _thresholds((np.abs(predicted) * scale)[listable & (np.abs(predicted) > smallest)])
    n, shape = len(threshold), (len(control_weights), len(predicted), len(threshold))
    loss, wrong, size = np.zeros(shape), np.zeros(shape), np.zeros(shape[1:])
    for share, weight in enumerate(control_weights):
        for mine, others in shifts:
            moved, seen = predicted + weight * mine, observed + others
            reached = np.searchsorted(threshold, np.abs(moved) * scale, "right")
            index = np.where(listable & (np.abs(moved) > smallest), reached, 0)
            disagrees = np.sign(moved) * seen <= smallest
            n_listed, n_wrong = (_at_least(index, among, n) for among in (None, disagrees))
            wrong[share] += n_wrong
            loss[share] += np.where(n_listed >= LEAST_LISTED, 2 * n_wrong / np.maximum(n_listed, 1), 0)
            size += n_listed / len(control_weights)
    loss = np.maximum.accumulate(loss[..., ::-1], axis=-1)[..., ::-1]
    n_shifts = len(shifts)
    return DiscoveryRule(threshold, loss / n_shifts, size / n_shifts, wrong / n_shifts, smallest, noise)


def discoveries_of(
    rectifier: Rectifier, references: References, listable: np.ndarray, halves: Any, smallest: float = 0.0
) -> DiscoveryRule:
    """The rule that references give for targets that the rectifier predicts.

    Parameters
    ----------
    rectifier, references
        Fitted, and what it was fitted on.
    listable
        (G,) genes that enough cells express.
    halves
        Of the control cells, of the K references (:class:`~dbdiffusion.screen.ControlHalves`). None where the control mean has
        no error.
    smallest
        As in :func:`fit_discoveries`.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier
    >>> seen = np.random.default_rng(0).standard_normal((20, 30))
    >>> references = References(seen, np.zeros((20, 30)), np.zeros(30), {"exact": seen})
    >>> rule = discoveries_of(fit_rectifier(references), references, np.ones(30, dtype=bool), halves=None)
    >>> rule.n_reference
    20
    """
    counted = listable & ~references.is_own_gene
    rows = np.flatnonzero(rectifier.spread_from)
    looks = _Looks.of(references, halves, rows)
    return fit_discoveries(
        rectifier.loo_predicted[rows],
        looks.observed,
        counted[rows],
        None if references.coherence is None else references.coherence[rows],
        list(looks.shifts()),
        tuple(dict.fromkeys(rectifier.control_weights)),
        smallest,
        references.typical_noise,
    )


KNOWN_POWER = 2  # of b, the share of the control's error that is known


@dataclass(frozen=True)
class _Looks:
    r"""Observations of references, and what makes them independent looks at what is predicted.

    Predictions carry what is left of the control's error after :meth:`References.corrected`, of variance :math:`(1 - b) V_0`.
    An observation carries all of it, of which :math:`b^2` of what is known is taken out: nearly all where nearly all is known.
    Where little is, what all have in common may well be an effect, and large ones would lose most. Whatever is taken out, both
    share :math:`(1 - b) V_0`. A half of the control cells lies from their mean as that from its expectation, so moving the
    prediction and the observation oppositely by parts of that distance, whose product is :math:`1 - b`, leaves nothing shared.
    """

    observed: np.ndarray  # (K, G)
    halves: Any
    of_prediction: np.ndarray | float  # (G,) parts of the distance
    of_observation: np.ndarray | float

    @classmethod
    def of(cls, references: References, halves: Any, rows: np.ndarray) -> _Looks:
        """Of some of the references."""
        error = references.control_error
        known = 1 - np.asarray(error.left)
        kept = 1 - known**KNOWN_POWER
        rest = np.sqrt(np.maximum(error.left + kept**2 * known, 1e-12))  # standard deviation, in those of the control mean
        observed = references.effect + kept * error.of_references
        return cls(observed[rows], None if halves is None else halves.subset(rows), error.left / rest, rest)

    def shifts(self) -> Iterator[tuple[np.ndarray | float, np.ndarray | float]]:
        """For every split, both ways: what a prediction of weight one and observations change by."""
        if self.halves is None:
            yield 0.0, 0.0
            return
        for mine, others in self.halves.shifts():
            yield self.of_prediction * mine, self.of_observation * others


def scores(predicted: np.ndarray, coherence: np.ndarray | None = None, noise: np.ndarray | float = 1.0) -> np.ndarray:
    """How sure the signs of predicted effects (T, G) are, in an order that is the same on all screens.

    The size of the effect times the square root of how much the target's neighbours agree (T,), over that of the noise with
    which effects on the gene are observed (G,). So a score lies between an effect and how many times its noise that is.

    Examples
    --------
    >>> scores(np.array([[-2.0, 1.0], [1.0, 3.0]]), np.array([0.25, 1.0]), np.array([1.0, 4.0])).tolist()
    [[1.0, 0.25], [1.0, 1.5]]
    """
    return np.abs(predicted) * _sureness(coherence, noise)


def _sureness(coherence: np.ndarray | None, noise: np.ndarray | float) -> np.ndarray:
    """What sizes of effects (T, G) are multiplied by: in rule and look-up the same number, so that both round alike."""
    return (1.0 if coherence is None else np.sqrt(coherence)[:, None]) / np.sqrt(noise)


def _rate(loss: np.ndarray, wrong: np.ndarray, listed: np.ndarray, n_reference: int) -> np.ndarray:
    """Least level (n,) at which a gene with a score at the threshold is listed, from sums over references.

    At a threshold the level is the larger of what the theorem promises and what all their lists together were wrong by; of
    losses and disagreements (shares, n) the worst share of the control's error counts. A gene is in the lists of all lower
    thresholds too, so the least of their levels is its own.
    """
    promised = (loss.max(axis=0) + LARGEST_LOSS) / (n_reference + 1)
    pooled = 2 * wrong.max(axis=0) / np.maximum(listed, 1)
    return np.minimum.accumulate(np.maximum(promised, pooled))


def _thresholds(scores: np.ndarray) -> np.ndarray:
    """Some of the scores, rising, closest where they are largest: ranks from the top in equal ratios."""
    if not len(scores):
        return np.zeros(1)
    ordered = np.sort(scores)
    ranks = np.unique(np.geomspace(1, len(ordered), N_THRESHOLDS).round().astype(int))
    return np.unique(ordered[-ranks])


def _at_least(index: np.ndarray, among: np.ndarray | None, n: int) -> np.ndarray:
    """Genes (K, n) of every row that reach each of n thresholds; ``index`` counts those that a gene reaches."""
    flat = (np.arange(len(index))[:, None] * (n + 1) + index).ravel()
    chosen = flat if among is None else flat[among.ravel()]
    counts = np.bincount(chosen, minlength=len(index) * (n + 1)).reshape(len(index), n + 1)[:, 1:]
    return np.cumsum(counts[:, ::-1], axis=1)[:, ::-1].astype(float)


# What the gene lists of left-out references were worth, each made by the others.


LEVELS = (0.05, 0.1, 0.2)


def left_out_lists(
    rule: DiscoveryRule,
    rectifier: Rectifier,
    references: References,
    listable: np.ndarray,
    halves: Any = None,
    levels: Sequence[float] = LEVELS,
) -> pd.DataFrame:
    """Length and errors of the lists of references, as if each were the target.

    A gene whose observed sign is not the predicted one counts twice, as in :func:`fit_discoveries`: where nothing changed, the
    sign of the observation is wrong half of the time.

    Parameters
    ----------
    rule
        Of all references.
    rectifier, references, listable, halves
        As it was fitted, see :func:`discoveries_of`.
    levels
        Of the lists.

    Returns
    -------
    DataFrame
        One row a level: ``n_listed`` (median), ``share_empty``, ``wrong`` (mean share, an empty list counted as right),
        ``wrong_se``, ``wrong_if_any`` (of lists that are not empty), ``pooled`` (of all listed genes), ``least_promise``.

    Examples
    --------
    >>> from dbdiffusion.inference import References, discoveries_of, fit_rectifier
    >>> truth, listable = np.random.default_rng(0).standard_normal((40, 60)), np.ones(60, dtype=bool)
    >>> references = References(truth, np.zeros((40, 60)), np.zeros(60), {"exact": truth})
    >>> rectifier = fit_rectifier(references)
    >>> rule = discoveries_of(rectifier, references, listable, None)
    >>> left_out_lists(rule, rectifier, references, listable)[["n_listed", "wrong"]].loc[0.1].tolist()
    [60.0, 0.0]
    """
    rows = np.flatnonzero(rectifier.spread_from)
    counted = (listable & ~references.is_own_gene)[rows]
    predicted = rectifier.loo_predicted[rows]
    coherence = None if references.coherence is None else references.coherence[rows]
    wrong = wrongness(rectifier, references, halves)[rows]
    q = rule.left_out_q_values(predicted, counted, coherence)
    table = {}
    for level in levels:
        listed = q <= level
        n = listed.sum(axis=1)
        n_wrong = np.where(listed, wrong, 0).sum(axis=1)
        share = n_wrong / np.maximum(n, 1)
        table[level] = {
            "n_listed": float(np.median(n)),
            "share_empty": float((n == 0).mean()),
            "wrong": float(share.mean()),
            "wrong_se": float(share.std(ddof=1) / np.sqrt(len(share))) if len(share) > 1 else np.nan,
            "wrong_if_any": float(share[n > 0].mean()) if n.any() else np.nan,
            "pooled": float(n_wrong.sum() / n.sum()) if n.any() else np.nan,
            "least_promise": rule.least_promise,
        }
    return pd.DataFrame(table).T.rename_axis("level")


def wrongness(rectifier: Rectifier, references: References, halves: Any = None) -> np.ndarray:
    """Twice the share (K, G), over halves of the control cells, of signs in which prediction and observation differ.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier
    >>> truth = np.random.default_rng(0).standard_normal((20, 30))
    >>> references = References(truth, np.zeros((20, 30)), np.zeros(30), {"exact": truth})
    >>> float(wrongness(fit_rectifier(references), references).max())
    0.0
    """
    looks = _Looks.of(references, halves, np.arange(len(references.effect)))
    shifts = list(looks.shifts())
    wrong = np.zeros(references.effect.shape)
    for mine, others in shifts:
        moved = rectifier.loo_predicted + rectifier.control_weight * mine
        wrong += 2 * (np.sign(moved) * (looks.observed + others) <= 0) / len(shifts)
    return wrong
