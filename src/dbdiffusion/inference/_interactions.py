r"""Genetic interactions: what a combination does beyond the sum of its parts.

With observed effects :math:`\delta = \bar x - \bar x_0`, the interaction of A and B is

.. math:: \iota = \delta_{AB} - \delta_A - \delta_B = \bar x_{AB} - \bar x_A - \bar x_B + \bar x_0,

so the control mean enters once, with the weight one, and not three times; with a batch key once a batch, with what the
weights of the three contrasts leave there. Beside it stand two numbers a combination. Along the sum
:math:`s = \delta_A + \delta_B`,

.. math:: \gamma = \langle \iota, s \rangle / \langle s, s \rangle

is -1 where the second part adds nothing to a first that does it all twice over, 0 where parts add, above 0 where they do more.
:math:`\iota` and s share the errors of the parts and of control, and s is noisy; both products are freed of that. To first
order the error of :math:`\gamma` is

.. math:: \big(\langle s, e_\iota \rangle + \langle \iota - 2 \gamma s, e_s \rangle\big) / \langle s, s \rangle,

so what a pair does across the sum counts too: the direction is an estimate. And the size of :math:`\iota` in any direction,
against that of its noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from dbdiffusion.inference._estimate import Estimate
from dbdiffusion.inference._projection import Projection, control_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_SIGNAL = 4.0  # standard deviations by which the squared sum must exceed its noise, or nothing is said along it
MIN_PAIRS = 3  # below it nothing is said of unseen ones


@dataclass(frozen=True)
class Interactions:
    """Of C combinations on G genes.

    Parameters
    ----------
    genes
        (C, G) effect beyond the sum of the parts.
    along
        (C,) that effect along the sum, as a share of it; NaN where the parts do too little to have a direction.
    size
        (C,) its length over genes, the noise taken out.
    p_value
        (C,) of no interaction on any gene.

    Examples
    --------
    Two pairs of which one takes away half of the sum of its parts, and of the other nothing can be said:

    >>> along = Estimate(np.array([-0.5, 0.1]), np.array([0.05, 2.0]), np.full(2, 50.0))
    >>> Interactions(Estimate(np.zeros((2, 3)), np.ones((2, 3)), 50.0), along, np.ones(2), np.ones(2)).kinds()
    ['buffering', 'undecided']
    """

    genes: Estimate
    along: Estimate
    size: np.ndarray
    p_value: np.ndarray

    def kinds(self, confidence: float = 0.95) -> list[str]:
        """What can be said along the sum: ``"buffering"``, ``"synergistic"``, ``"additive"`` or ``"undecided"``.

        Additive is where the whole interval lies within a quarter of the sum: that is shown, not taken for granted.
        """
        low, high = self.along.interval(confidence)
        words = np.full(len(low), "undecided", dtype=object)
        words[(low > -0.25) & (high < 0.25)] = "additive"
        words[high < 0] = "buffering"
        words[low > 0] = "synergistic"
        return list(words)


def interactions(
    effect: np.ndarray,
    variance: np.ndarray,
    control_variance: np.ndarray,
    df: np.ndarray,
    control_df: float,
    rows: Sequence[tuple[int, Sequence[int]]],
    halves: Any = None,
    own_genes: Sequence[np.ndarray] = (),
    control_norm_cv: float = 0.0,
) -> Interactions:
    """Observed interactions of measured combinations all of whose parts were measured.

    Parameters
    ----------
    effect, variance, control_variance
        (P, G) observed effects, sampling variances of the perturbations' own means and of the control mean.
    df, control_df
        (P, G) and scalar: their degrees of freedom.
    rows
        Of every combination, and of its parts.
    halves
        Of the control cells, of the P perturbations (:class:`~dbdiffusion.screen.ControlHalves`). Without them batches are
        taken to weigh alike in all contrasts, and genes' errors as independent along the sum, which they seldom are.
    own_genes
        Columns of the genes that each combination hits, which do not count along the sum and for the size.
    control_norm_cv
        Coefficient of variation of the squared norm of the control's error, see :func:`~dbdiffusion.screen.norm_cv`.

    Examples
    --------
    >>> a, b = np.array([1.0, 0.0, 2.0]), np.array([0.0, 3.0, 1.0])
    >>> one = np.ones((3, 3))
    >>> found = interactions(np.stack([a, b, a + b]), 0.01 * one, 0.02 * one, 50 * one, 99.0, [(2, (0, 1))])
    >>> found.genes.effect.round(2).tolist(), float(found.genes.se[0, 0].round(3)), found.kinds()
    ([[0.0, 0.0, 0.0]], 0.224, ['additive'])
    """
    n, n_genes = len(rows), effect.shape[1]
    counted = np.ones((n, n_genes), dtype=bool)
    for row, genes in zip(counted, own_genes, strict=False):
        row[genes] = False
    beyond, total, square = np.empty((n, n_genes)), np.empty((n, n_genes)), np.empty((n, n_genes))
    along, along_se, size, p_value = (np.full(n, np.nan) for _ in range(4))
    along_df = np.full(n, np.inf)
    for i, (pair, parts) in enumerate(rows):
        sum_of_parts, own = effect[list(parts)].sum(axis=0), variance[list(parts)].sum(axis=0)
        control = control_variance[pair] * _control_share(halves, pair, parts)
        beyond[i] = effect[pair] - sum_of_parts
        total[i] = variance[pair] + own + control
        with np.errstate(invalid="ignore", divide="ignore"):
            pieces = [variance[pair] ** 2 / df[pair], *(variance[part] ** 2 / df[part] for part in parts)]
            square[i] = sum(pieces) + control**2 / control_df
        genes = counted[i]
        noise_of_sum = own + len(parts) ** 2 * control_variance[pair]
        in_both = own + (len(parts) - 1) * len(parts) * control_variance[pair]
        noise, noise_of_sum, in_both = (float(values[genes].sum()) for values in (total[i], noise_of_sum, in_both))
        signal = float((sum_of_parts[genes] ** 2).sum()) - noise_of_sum
        spread = max(control_norm_cv, np.sqrt(2 / max(genes.sum(), 1)))
        size[i] = np.sqrt(max(float((beyond[i] ** 2)[genes].sum()) - noise, 0.0))
        directions = 2 / spread**2  # that the noise has
        p_value[i] = stats.chi2.sf(float((beyond[i] ** 2)[genes].sum()) / max(noise, 1e-300) * directions, directions)
        if signal <= max(MIN_SIGNAL * spread, 1) * noise_of_sum:
            continue
        along[i] = (float(sum_of_parts[genes] @ beyond[i][genes]) + in_both) / signal
        towards = np.where(genes, sum_of_parts, 0) / signal
        across = np.where(genes, beyond[i], 0) / signal - 2 * along[i] * towards
        errors = _Errors(variance[pair], own, control_variance[pair], halves, pair, tuple(parts))
        plugged_in, along_df[i] = errors.variance(towards, across)
        noise_beyond = noise + along[i] * (2 * in_both + along[i] * noise_of_sum)  # of what is beyond a share of the sum
        square_of_noise = noise_beyond * noise_of_sum + (in_both + along[i] * noise_of_sum) ** 2
        twice = spread**2 / 2 * square_of_noise / signal**2  # of noise times noise, which is in both factors
        along_se[i] = np.sqrt(max(plugged_in - twice, plugged_in / 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        welch_df = np.where(square > 0, total**2 / square, np.inf)
    known = np.isfinite(total) & np.stack([(df[[pair, *parts]] > 0).all(axis=0) for pair, parts in rows])
    genes_estimate = Estimate(beyond, np.where(known, np.sqrt(total), np.nan), welch_df)
    return Interactions(genes_estimate, Estimate(along, along_se, along_df), size, p_value)


def unseen_along(measured: np.ndarray, n_unseen: int, confidence: float = 0.95) -> tuple[Estimate, np.ndarray, np.ndarray, str]:
    """What measured combinations tell of others along the sum of their parts: their mean, and how far each lies from it.

    Nothing here says *which* unseen pair interacts. The interval is that of a new pair like the measured ones (jackknife+).

    Parameters
    ----------
    measured
        (C,) shares beyond the sum of the measured combinations; NaN are left out.
    n_unseen
        T.
    confidence
        Of the interval.

    Returns
    -------
    tuple
        Estimate (T,), whose standard error is the standard deviation of left-out errors, both ends (T,) of the interval, and a
        sentence about what it rests on. NaN with fewer than three combinations.

    Examples
    --------
    >>> estimate, low, high, words = unseen_along(np.linspace(-0.5, 0.1, 25), 2)
    >>> estimate.effect.round(2).tolist(), low.round(2).tolist(), high.round(2).tolist()
    ([-0.2, -0.2], [-0.52, -0.52], [0.12, 0.12])
    >>> unseen_along(np.array([0.1, 0.2]), 1)[3]
    'Only 2 measured pairs tell what pairs do beyond the sum of their parts, and at least 3 are needed: nothing is said.'
    """
    known = measured[np.isfinite(measured)]
    n = len(known)
    if n < MIN_PAIRS:
        unknown = np.full(n_unseen, np.nan)
        words = (
            f"Only {n} measured pairs tell what pairs do beyond the sum of their parts, and at least {MIN_PAIRS} are needed: "
            "nothing is said."
        )
        return Estimate(unknown, unknown, unknown), unknown, unknown, words
    others = (known.sum() - known) / (n - 1)
    projection = Projection(others, known, np.zeros(n))
    low, high = projection.interval(np.repeat(others[None], n_unseen, axis=0), confidence)
    spread = float(np.sqrt(np.mean((known - others) ** 2)))
    words = f"{n} measured pairs lie {known.mean():+.2f} of the sum beyond it, each about {spread:.2f} from the others' mean."
    limits = projection.said(1, 1.0, confidence)
    estimate = Estimate(*(np.full(n_unseen, value) for value in (known.mean(), spread, n - 1.0)))
    return estimate, low, high, " ".join([words, *limits])


def _control_share(halves: Any, pair: int, parts: Sequence[int]) -> float:
    """Variance of the control's error in an interaction over that in the combination's contrast.

    All batches alike, the control mean enters as often as there are parts, less one.
    """
    if halves is None:
        return float(len(parts) - 1) ** 2
    left = halves.weight[list(parts)].sum(axis=0) - halves.weight[pair]
    spread = sum((half**2).sum(axis=(0, 2)) for half in (halves.first, halves.second))  # (batches,)
    ours, theirs = float(left**2 @ spread), float(halves.weight[pair] ** 2 @ spread)
    return ours / theirs if theirs > 0 else float(len(parts) - 1) ** 2


@dataclass(frozen=True)
class _Errors:
    """Of a combination: variances (G,) of its own mean, of its parts' together, and of the control mean."""

    own: np.ndarray
    of_parts: np.ndarray
    of_control: np.ndarray
    halves: Any
    pair: int
    parts: tuple[int, ...]

    def variance(self, towards: np.ndarray, across: np.ndarray) -> tuple[float, float]:
        """Of the interaction's error along one direction (G,) and the sum's along another, and degrees of freedom.

        Genes are correlated as control cells have them. Perturbed cells that respond unequally, since some escape, are
        correlated along their own effect, too; gene-wise variances do not tell of that, and it is not in here.
        """
        from_parts = across - towards
        n = len(self.parts)
        if self.halves is None:
            of_control = ((n - 1) * towards - n * across) ** 2 @ self.of_control
            return float(self.own @ towards**2 + self.of_parts @ from_parts**2 + of_control), np.inf
        weight, of_sum = self.halves.weight[self.pair], self.halves.weight[list(self.parts)].sum(axis=0)
        directions = np.outer(of_sum - weight, towards) - np.outer(of_sum, across)  # (batches, G)
        halves = (self.halves.first, self.halves.second)
        of_control = sum(float(np.mean([(half[:, b] @ one) ** 2 for half in halves])) for b, one in enumerate(directions))
        total = self._correlated(self.own, towards) + self._correlated(self.of_parts, from_parts) + of_control
        return total, float(len(self.halves.first))

    def _correlated(self, variance: np.ndarray, direction: np.ndarray) -> float:
        sd, _ = control_spread(self.halves.subset(np.array([self.pair])), direction)
        independent, of_control = float(variance @ direction**2), float(self.of_control @ direction**2)
        return float(sd[0]) ** 2 * independent / of_control if of_control > 0 else independent
