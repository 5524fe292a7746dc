"""Power tuning: weights of the predictors and shrinkage of the rectifier's mean, by leave-one-out risk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


# Reference perturbations: what was observed, what would have been predicted, and who is compared with whom.


MAX_CHUNK = 2**24  # values in a chunk of genes
LEAST_NOISE = 0.05  # of a gene, in medians over genes: of one that nobody expresses, none is seen


@dataclass(frozen=True)
class ControlError:
    r"""An estimate of the error of the control mean.

    Parameters
    ----------
    of_references
        (K, G), for every reference that of the others.
    of_targets
        (G,) of all.
    left
        (G,) share of the control's error that stays in effects and predictions: one less b.
    mistaken, noise
        (G,) of the variance that the estimate leaves, what was taken for a common effect, :math:`b h T`, and what the noise of
        the perturbations' own cells left in it, :math:`b \bar v / K`.
    variance
        (G,) of the control's error itself.
    """

    of_references: np.ndarray | float
    of_targets: np.ndarray | float
    left: np.ndarray | float
    mistaken: np.ndarray | float
    noise: np.ndarray | float
    variance: np.ndarray | float


NOT_ESTIMATED = ControlError(of_references=0.0, of_targets=0.0, left=1.0, mistaken=0.0, noise=0.0, variance=0.0)


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
    control_norm_cv
        Coefficient of variation of the squared norm, over genes, of the control's error.
    control_share
        Predictor to the share of the control's error that its predictions are taken to carry; 1, that of a mean of observed
        effects, if left out.
    placed
        (K,) whether something placed the reference; the others are predicted by the mean and say nothing of how far a placed
        target lies from its prediction. None: all are.
    coherence
        (K,) from 0 to 1, how much the neighbours of each agree; None where that is not known.
    part_variance
        (K, G) sampling variance of what predictions are made of: of a combination the sum over its measured parts, whose
        effects are added. It enters a prediction with the total weight of the predictors.
    control_error
        What was taken out of effects and predictions by :meth:`corrected`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.normal(size=(20, 30))
    >>> references = References(
    ...     effect=truth + 0.1 * rng.normal(size=truth.shape),
    ...     variance=np.full(truth.shape, 0.01),
    ...     control_variance=np.zeros(30),
    ...     predicted={"other": truth + 0.3 * rng.normal(size=truth.shape)},
    ... )
    >>> references.effect.shape, list(references.predicted)
    ((20, 30), ['other'])
    """

    effect: np.ndarray
    variance: np.ndarray
    control_variance: np.ndarray
    predicted: dict[str, np.ndarray]
    own_genes: tuple[np.ndarray, ...] = ()
    control_norm_cv: float = 0.0
    control_share: Mapping[str, float] = field(default_factory=dict)
    placed: np.ndarray | None = None
    coherence: np.ndarray | None = None
    part_variance: np.ndarray | float = 0.0
    control_error: ControlError = NOT_ESTIMATED

    @property
    def likely_control_norm(self) -> float:
        """Squared norm that the control's error may well have: its expectation and one standard deviation.

        All references share that one error, so however many agree on a common effect, it may be the control's chance.
        """
        return float(self.control_variance.sum()) * (1 + self.control_norm_cv)

    @property
    def control_shares(self) -> np.ndarray:
        """``control_share`` of all predictors (Q,)."""
        return np.array([self.control_share.get(name, 1.0) for name in self.predicted])

    def likely_agreement(self, predicted: np.ndarray, share: float) -> float:
        """Inner product, a reference, that predictions (K, G) may well have with observed effects by the control's error alone.

        What they carry of it themselves, and one standard deviation of chance for what they do not: a mean prediction and
        that one error, which varies along so many directions as its norm's coefficient of variation tells.
        """
        along = self.control_norm_cv * np.sqrt(float(self.control_variance.sum()) / 2)
        by_chance = float(np.linalg.norm(predicted.mean(axis=0))) * along
        return share * self.likely_control_norm + max(1 - share, 0) * by_chance

    @property
    def n_placed(self) -> int:
        """References that something placed."""
        return len(self.effect) if self.placed is None else int(self.placed.sum())

    @property
    def is_own_gene(self) -> np.ndarray:
        """(K, G) whether a reference itself perturbs the gene."""
        hit = np.zeros(self.effect.shape, dtype=bool)
        for i, genes in enumerate(self.own_genes):
            hit[i, genes] = True
        return hit

    def without_own_genes(self) -> References:
        """The same with own genes replaced by the mean of those that do not hit them, observed and predicted alike."""
        if not any(map(len, self.own_genes)):
            return self
        hit = self.is_own_gene
        columns = np.flatnonzero(hit.any(axis=0))
        inside = hit[:, columns]
        predicted = {name: _fill(values, columns, inside) for name, values in self.predicted.items()}
        return replace(self, effect=_fill(self.effect, columns, inside), predicted=predicted, own_genes=())

    def corrected(self) -> References:
        """The same less the control's error, as far as it is known; see :func:`control_error`.

        What is left is as likely to lie on one side as on the other, whatever the observations are, so no prediction agrees
        with it by chance, and tuning need not reckon with it. It was partly taken for an effect that all have in common, and
        that is an error of every target (``control_error.mistaken``). The rest is noise of the observed effects.

        An observed effect loses what the others tell, so that no part of it is its own. Predictions lose, by the share that
        they carry, what all tell, as those of targets do: were it without each reference, it would betray the reference to the
        weights, as every mean of others does.
        """
        error = control_error(self)
        if error is NOT_ESTIMATED:
            return self
        without = replace(
            self,
            effect=self.effect - error.of_references,
            variance=self.variance + error.noise,
            control_variance=np.zeros_like(self.control_variance),
            control_error=error,
        )
        return without.with_predicted(without.of_targets(self.predicted))

    def of_targets(self, predicted: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Predictions (T, G) of targets, less what :meth:`corrected` took out of those of references."""
        error = self.control_error.of_targets
        return {name: values - self.control_share.get(name, 1.0) * error for name, values in predicted.items()}

    @property
    def seen(self) -> np.ndarray:
        """Effects (K, G) as they were observed, with the whole of the control's error."""
        return self.effect + self.control_error.of_references

    @property
    def seen_control_variance(self) -> np.ndarray:
        """Variance (G,) of the control's error in them."""
        return self.control_variance + self.control_error.variance

    @property
    def typical_noise(self) -> np.ndarray:
        """Standard deviation (G,) with which effects on a gene are observed, that of the middle gene being one.

        Of a gene that hardly varies next to nothing is known, so a share of the middle gene's variance is added. A gene of
        which it is not known has that of the middle gene, all of them where nothing is known.
        """
        of_others = ~self.is_own_gene
        n = of_others.sum(axis=0)
        variance = np.where(of_others, self.variance, 0).sum(axis=0) / np.maximum(n, 1) + self.seen_control_variance
        known = np.isfinite(variance) & (variance > 0) & (n > 0)
        if not known.any():
            return np.ones(len(variance))
        middle = np.median(variance[known])
        variance = np.where(np.isfinite(variance) & (n > 0), variance, middle)
        return np.sqrt((variance + LEAST_NOISE * middle) / ((1 + LEAST_NOISE) * middle))

    def weight_of_control(self, carried: float) -> float:
        """Weight of the control's error in a prediction, as far as an observation against the same control agrees with it.

        After :meth:`corrected` it does not depend on the weight ``carried`` by the predictors.
        """
        whole = float(self.seen_control_variance.sum())
        agrees = carried * float(self.control_variance.sum()) + float(np.sum(self.control_error.mistaken))
        return agrees / whole if whole > 0 else carried

    def with_predicted(self, predicted: dict[str, np.ndarray]) -> References:
        """The same with other predictions, by predictors of the same names."""
        return replace(self, predicted=predicted)

    def known_noise(self, control_weight: float, part_weight: float = 0.0) -> np.ndarray:
        """Known variance (K, G) of errors against observed effects.

        Own sampling noise, of the control's what the prediction does not carry, and that of the parts of a combination.
        """
        return self.variance + self.control_noise(control_weight) + part_weight**2 * self.part_variance

    def control_noise(self, control_weight: float) -> np.ndarray:
        """Of the control's variance (G,), what the prediction does not carry."""
        return (1 - control_weight) ** 2 * self.control_variance

    def gene_chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Slices of genes with observed effects and predictions stacked, (1 + Q, K, genes): never all genes at once."""
        n, n_genes = self.effect.shape
        step = max(1, MAX_CHUNK // ((1 + len(self.predicted)) * max(n, 1)))
        for start in range(0, n_genes, step):
            genes = slice(start, min(start + step, n_genes))
            yield genes, np.stack([self.effect[:, genes], *(values[:, genes] for values in self.predicted.values())])


# The control's error, as far as what all perturbations have in common tells it.


MIN_FOR_CONTROL_ERROR = 10  # references: fewer do not tell a common effect from the control's error
LEAST_BETWEEN = 0.1  # of the mean over genes, which the variance between perturbations of every gene has at least


def control_error(references: References) -> ControlError:
    r"""What the mean of all effects says of the error of the control mean; nothing with fewer than ten references.

    All observed effects share the error :math:`e_0` of the control mean. Most perturbations do little to most genes, so an
    effect that all of them have may well be that error. With the mean effect of K perturbations normal around zero,

    .. math:: \bar\delta = \bar\theta + e_0 + \bar\epsilon, \qquad
        E[e_0 \mid \bar\delta] = b\, \bar\delta, \quad b = \frac{V_0}{V_0 + h T + \bar v / K},

    where T is the variance of a gene between perturbations and h, one number for all genes, makes the squared norm of
    :math:`\bar\delta` what it is. Where perturbations have much in common h is large and nothing is taken out. Own genes do
    not count.

    An effect less this estimate has the error :math:`e_0 - b \bar\delta`. With predictions, which are made of what was
    observed, it is not correlated, with true effects it is by :math:`-b h T`. So the squared error against the truth is that
    against corrected effects, less their own noise and :math:`b \bar v / K`, plus :math:`b h T`, whatever is predicted.

    Examples
    --------
    Nothing changes anything here, so what all have in common is the control's error:

    >>> rng = np.random.default_rng(0)
    >>> error = rng.standard_normal(200)
    >>> seen = error + rng.standard_normal((50, 200))
    >>> found = control_error(References(seen, np.ones((50, 200)), np.ones(200), {}))
    >>> bool(np.mean((found.of_targets - error) ** 2) < 0.1), bool(found.left.max() < 0.1)
    (True, True)
    """
    if len(references.effect) < MIN_FOR_CONTROL_ERROR or not references.control_variance.any():
        return NOT_ESTIMATED
    known = ~references.is_own_gene
    effect, variance = np.where(known, references.effect, 0.0), np.where(known, references.variance, 0.0)
    sums = (known.astype(float), effect, effect**2, variance)
    control = references.control_variance
    of_references = _shared_error(control, *map(_sum_of_others, sums))[0]
    of_targets, share, common, noise = _shared_error(control, *(one.sum(axis=0) for one in sums))
    return ControlError(of_references, of_targets, 1 - share, share * common, share * noise, control)


def _shared_error(
    control: np.ndarray, n: np.ndarray, total: np.ndarray, square: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Expected error of the control mean, its share of the mean effect, and variances of the common effect and of noise.

    From sums over references; all (..., G).
    """
    n = np.maximum(n, 2)
    mean, own = total / n, variance / n
    between = np.maximum((square - n * mean**2) / (n - 1) - own, 0)
    between = np.maximum(between, LEAST_BETWEEN * between.mean(axis=-1, keepdims=True))
    common = np.maximum((mean**2 - control - own / n).sum(axis=-1, keepdims=True), 0)
    of_all = between.sum(axis=-1, keepdims=True)
    prior = np.divide(common * between, of_all, out=np.zeros_like(between), where=of_all > 0)
    whole = control + prior + own / n
    share = np.divide(control, whole, out=np.zeros_like(whole), where=whole > 0)
    return share * mean, share, prior, own / n


def _sum_of_others(values: np.ndarray) -> np.ndarray:
    """For every row the sum of the others, (K, G); nothing is subtracted, so that no bit of the row is in it."""
    zero = np.zeros_like(values[:1])
    before = np.cumsum(np.concatenate([zero, values[:-1]]), axis=0)
    after = np.cumsum(np.concatenate([zero, values[:0:-1]]), axis=0)[::-1]
    return before + after


def mean_of_others(values: np.ndarray) -> np.ndarray:
    """For every reference the mean over the others, (..., K, G) to (..., K, G).

    Examples
    --------
    >>> mean_of_others(np.array([[0.0], [1.0], [5.0]])).ravel()
    array([3. , 2.5, 0.5])
    """
    return (values.sum(axis=-2, keepdims=True) - values) / (values.shape[-2] - 1)


def _fill(values: np.ndarray, columns: np.ndarray, hit: np.ndarray) -> np.ndarray:
    filled = np.array(values)
    inside = filled[:, columns]
    mean = np.where(hit, 0, inside).sum(axis=0) / np.maximum((~hit).sum(axis=0), 1)
    filled[:, columns] = np.where(hit, mean, inside)
    return filled


RHO_GRID = tuple(np.linspace(0, 1, 11))


@dataclass(frozen=True)
class Tuned:
    """What the references ask for.

    Parameters
    ----------
    rho
        Weight of the rectifier's mean.
    weight
        (Q,) of the predictors.
    risk
        Summed over references and genes, against the truth.
    """

    rho: float
    weight: np.ndarray
    risk: float


class Tuning:
    """Risk of (rho, w) against the truth, summed over genes, from Gram matrices: nothing of size K x G per candidate.

    Parameters
    ----------
    references
        Own genes filled.
    lam
        Weight of the first predictor if not to be tuned; the others then have none, and ``rho`` is one unless given.
    rho
        Weight of the rectifier's mean if not to be tuned.
    """

    def __init__(self, references: References, lam: float | None = None, rho: float | None = None) -> None:
        self._references = references
        self._n = len(references.effect)
        self._lam = lam
        self._rhos = (rho,) if rho is not None else (1.0,) if lam is not None else RHO_GRID
        self._control = references.likely_control_norm
        shares = zip(references.predicted.values(), references.control_shares, strict=True)
        self._agreement = np.array([references.likely_agreement(predicted, share) for predicted, share in shares])
        width = 1 + len(references.predicted)
        self._own = np.zeros((self._n, width, width))
        self._cross, self._mean = np.zeros_like(self._own), np.zeros_like(self._own)
        for _, vectors in references.gene_chunks():
            means = mean_of_others(vectors)
            cross = _gram(vectors, means)
            self._own += _gram(vectors, vectors)
            self._cross += cross + cross.transpose(0, 2, 1)
            self._mean += _gram(means, means)
        self._sums = tuple(gram.sum(axis=0) for gram in (self._own, self._cross, self._mean))

    def choose(self, without: int | None = None) -> Tuned:
        """The candidate of least risk, optionally without one reference."""
        return min((self._tune(rho, without) for rho in self._rhos), key=lambda tuned: tuned.risk)

    @cached_property
    def chosen_without(self) -> tuple[Tuned, ...]:
        """The choice (K,) without each reference."""
        return tuple(self.choose(without=i) for i in range(self._n))

    def leave_one_out_errors(self) -> np.ndarray:
        """Error (K, G) of every reference, predicted by the others with a choice made on the others."""
        chosen = self.chosen_without
        rho = np.array([tuned.rho for tuned in chosen])[:, None]
        coefficient = np.stack([np.concatenate([[1.0], -tuned.weight]) for tuned in chosen]).T[:, :, None]
        errors = np.empty(self._references.effect.shape, dtype=self._references.effect.dtype)
        for genes, vectors in self._references.gene_chunks():
            errors[:, genes] = (coefficient * (vectors - rho * mean_of_others(vectors))).sum(axis=0)
        return errors

    def _tune(self, rho: float, without: int | None) -> Tuned:
        total = self._left_out_gram(rho, None)
        if without is not None:
            total = total - self._left_out_gram(rho, without)
        count = self._n - (without is not None)
        quadratic, linear = total[1:, 1:], total[1:, 0] - count * (1 - rho) * self._agreement
        weight = _only_first(len(linear), self._lam) if self._lam is not None else _non_negative_minimum(quadratic, linear)
        risk = total[0, 0] - 2 * weight @ linear + weight @ quadratic @ weight + 2 * count * rho * self._control
        return Tuned(float(rho), weight, float(risk))

    def _left_out_gram(self, rho: float, row: int | None) -> np.ndarray:
        """Inner products of vectors minus rho times the mean of the others, of one reference or summed over all."""
        own, cross, mean = self._sums if row is None else (gram[row] for gram in (self._own, self._cross, self._mean))
        return own - rho * cross + rho**2 * mean


def _gram(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Inner products over genes, (A, K, G) and (B, K, G) to (K, A, B)."""
    return (first.transpose(1, 0, 2) @ second.transpose(1, 2, 0)).astype(float)


def _only_first(n: int, lam: float) -> np.ndarray:
    return lam * np.eye(1, n)[0]


def _non_negative_minimum(quadratic: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Minimiser of w'Aw - 2 w'b over w >= 0, with a whiff of ridge so that equal predictors share their weight."""
    if not np.trace(quadratic) > 0:  # no predictor says anything
        return np.zeros(len(linear))
    quadratic = quadratic + 1e-6 * np.trace(quadratic) * np.eye(len(linear))
    root = np.linalg.cholesky(quadratic)
    return optimize.nnls(root.T, np.linalg.solve(root, linear))[0]


# Tuned weights, and what they predict of every reference without it.


POSSIBLE_SHARES = (0.0, 0.5, 1.0)  # of the control's error, in a predictor for which it is not known


@dataclass(frozen=True)
class LeftOutFit:
    """Tuned weights, and what they predict of every reference without it.

    Parameters
    ----------
    tuned
        Of all references.
    control_weight
        Weight of the control's error in a prediction.
    control_weights
        The same, did predictors that carry a part of that error carry nothing, a half or all of it.
    predicted
        (K, G) left-out predictions.
    chosen
        (K,) the choice without each reference.
    """

    tuned: Tuned
    control_weight: float
    control_weights: tuple[float, ...]
    predicted: np.ndarray
    chosen: tuple[Tuned, ...]


def left_out_fit(references: References, lam: float | None = None, rho: float | None = None) -> LeftOutFit:
    """Tune on references whose own genes are filled; see :func:`fit_rectifier`."""
    tuning = Tuning(references, lam, rho)
    tuned = tuning.choose()
    shares = references.control_shares
    control_weight, *others = (
        tuned.rho + (1 - tuned.rho) * float(tuned.weight @ carried)
        for carried in (shares, *(np.where(shares < 1, share, 1.0) for share in POSSIBLE_SHARES))
    )
    predicted = references.effect - tuning.leave_one_out_errors()
    return LeftOutFit(tuned, control_weight, tuple(others), predicted, tuning.chosen_without)
