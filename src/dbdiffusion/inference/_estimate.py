"""An estimate with its standard error and degrees of freedom; interval, p-value and table come from here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self


# The t that stands for a t error plus a normal one: known noise has no heavy tails, whatever it is added to.


MATCHED = (0.8, 0.99)  # levels at which both have the same interval
DF_GRID = np.concatenate([np.geomspace(0.5, 1e4, 300), [np.inf]])
LOGIT_GRID = np.linspace(-8.0, 8.0, 49)  # of the share of the normal
PRECISE = {"maxiter": 400, "ftol": 1e-14, "gtol": 1e-8}  # searches of laws end where the last digits of data decide nothing
N_COMPONENTS = 1000
STEP = 1e-5  # of the logarithm of the degrees of freedom, for the slope


def scale_mixture(df: float, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Precisions and weights of the normals whose mixture a t is; denser in the tails, where precision is small.

    Examples
    --------
    >>> precision, weight = scale_mixture(6.0, 200)
    >>> round(float((weight / precision).sum()), 2)  # the variance, 6 / (6 - 2)
    1.5
    """
    grid = (np.arange(n_components) + 0.5) / n_components
    return stats.gamma.ppf(grid**3, df / 2, scale=2 / df), grid**2 / (grid**2).sum()


def slope_of_precision(df: float, n_components: int) -> np.ndarray:
    """Slope of the logarithms of :func:`scale_mixture`'s precisions by that of the degrees of freedom."""
    before, after = (scale_mixture(some, n_components)[0] for some in (df, df * np.exp(STEP)))
    return np.log(after / before) / STEP


def log_mixture(log_density: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of components (..., C): the logarithm of their weighted sum, and the share of each in it."""
    largest = log_density.max(axis=-1, keepdims=True)
    share = weights * np.exp(log_density - largest)
    total = share.sum(axis=-1, keepdims=True)
    return (np.log(total) + largest)[..., 0], share / total


def t_plus_normal(t_variance: np.ndarray, normal_variance: np.ndarray, df: float) -> tuple[np.ndarray, np.ndarray]:
    r"""Scale and degrees of freedom of a t close to :math:`\sqrt{v} \, t_\nu + \sqrt{w} \, N(0, 1)`.

    Its 80 % and 99 % intervals are those of the sum; from 2.5 degrees of freedom on, its 50 % intervals hold 48 to 50 % and its
    95 % intervals 95 to 95.7 %. Scaling the t itself to :math:`v + w` would give known noise tails that it has not: with
    :math:`v = w` and :math:`\nu = 2.5`, 80 % intervals would hold 83.5 %, 95 % intervals 97.3 %.

    Parameters
    ----------
    t_variance, normal_variance
        v and w, squared scales, broadcast.
    df
        :math:`\nu`.

    Returns
    -------
    tuple
        Standard errors and degrees of freedom, of the common shape.

    Examples
    --------
    >>> se, df = t_plus_normal(np.array([4.0, 4.0, 0.0]), np.array([0.0, 4.0, 9.0]), df=3.0)
    >>> se.round(2), df.round(1)
    (array([2.  , 2.83, 3.  ]), array([3. , 4.4, inf]))
    """
    t_variance, normal_variance = np.broadcast_arrays(t_variance, normal_variance)
    total = t_variance + normal_variance
    se = np.sqrt(total)
    if not np.any(normal_variance) or df >= DF_GRID[-2]:
        return se, np.full(se.shape, df)
    with np.errstate(divide="ignore", invalid="ignore"):
        logit = np.where(total > 0, np.log(normal_variance) - np.log(t_variance), 0.0)
    scales, inverse_dfs = _matched(df)
    inverse_df = np.interp(logit, LOGIT_GRID, inverse_dfs, left=1 / df, right=0.0)
    scale = np.interp(logit, LOGIT_GRID, scales, left=1.0, right=1.0)
    with np.errstate(divide="ignore"):
        return se * scale, 1 / inverse_df


@cache
def _matched(df: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale beside the root of the summed variances, and one over degrees of freedom, at every share of the grid."""
    precision, weight = scale_mixture(df, N_COMPONENTS)
    share = 1 / (1 + np.exp(-LOGIT_GRID))
    sd = np.sqrt((1 - share)[:, None] / precision + share[:, None])
    low, high = (_quantile(level, sd, weight) for level in MATCHED)
    t_low, t_high = (stats.t.ppf(0.5 + level / 2, DF_GRID) for level in MATCHED)
    inverse_df = np.interp(high / low, (t_high / t_low)[::-1], (1 / DF_GRID)[::-1])
    with np.errstate(divide="ignore"):
        return low / stats.t.ppf(0.5 + MATCHED[0] / 2, 1 / inverse_df), inverse_df


def _quantile(level: float, sd: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Half the width (n,) of the interval of mixtures of normals, standard deviations (n, components), by bisection in logs."""
    low, high = np.full(len(sd), -12.0), np.full(len(sd), 30.0)
    for _ in range(60):
        middle = (low + high) / 2
        outside = (2 * stats.norm.sf(np.exp(middle)[:, None] / sd)) @ weight
        low, high = np.where(outside > 1 - level, middle, low), np.where(outside > 1 - level, high, middle)
    return np.exp((low + high) / 2)


EXACT_QUANTILES = 4000  # above it, quantiles of t are interpolated
NORMAL_FROM_DF = 1e5  # when they are interpolated


@dataclass(frozen=True)
class Estimate:
    """Estimates on a t scale, any common shape.

    Parameters
    ----------
    effect
        Point estimate.
    se
        Standard error; NaN where no interval can be had.
    df
        Degrees of freedom of the t distribution, broadcast against ``effect``; infinity is the normal.

    Examples
    --------
    >>> estimate = Estimate(np.array([1.96]), np.array([1.0]), np.array([np.inf]))
    >>> estimate.p_value().round(3), estimate.interval(0.95)[0].round(3)
    (array([0.05]), array([0.]))
    """

    effect: np.ndarray
    se: np.ndarray
    df: np.ndarray

    @property
    def statistic(self) -> np.ndarray:
        """Effect over standard error; 0 / 0 is 0."""
        zero = np.zeros_like(self.effect)
        with np.errstate(divide="ignore"):
            ratio = np.divide(self.effect, self.se, out=zero, where=(self.se != 0) | (self.effect != 0))
        return np.where(np.isnan(self.se), np.nan, ratio)

    def interval(self, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper end of the interval at a confidence strictly between 0 and 1."""
        check_confidence(confidence)
        half = _t_quantile(0.5 + confidence / 2, self.df) * self.se
        return self.effect - half, self.effect + half

    def p_value(self, threshold: float = 0.0) -> np.ndarray:
        """Two-sided p-value of ``|effect| <= threshold``; threshold 0 is the usual test of no effect.

        With a threshold it is the probability, were the effect just as large as it, of an estimate farther out on either
        side (limma's ``treat``; McCarthy & Smyth, Bioinformatics 25, 2009).
        """
        if threshold < 0:
            msg = f"`threshold` must not be negative, got {threshold!r}."
            raise ValueError(msg)
        if threshold == 0:
            return 2 * stats.t.sf(np.abs(self.statistic), self.df)
        magnitude = np.abs(self.effect)
        known = np.where(self.se == 0, 1.0, self.se)
        p_value = stats.t.sf((magnitude - threshold) / known, self.df) + stats.t.sf((magnitude + threshold) / known, self.df)
        return np.where(self.se == 0, (magnitude <= threshold).astype(float), np.minimum(p_value, 1.0))

    def subset(self, rows: np.ndarray) -> Self:
        """Rows of the first axis."""
        df = np.broadcast_to(self.df, self.effect.shape)
        return type(self)(self.effect[rows], self.se[rows], df[rows])


def _t_quantile(level: float, df: np.ndarray) -> np.ndarray:
    """Quantiles of t; they are dear, so one looks a row with a single df up once, and interpolates many (to 1e-5)."""
    df = np.asarray(df, dtype=float)
    if df.ndim > 1 and (df == df[..., :1]).all():
        return stats.t.ppf(level, df[..., :1])
    if df.size <= EXACT_QUANTILES:
        return stats.t.ppf(level, df)
    least = np.fmin.reduce(df, axis=None, initial=NORMAL_FROM_DF)  # NaN do not count
    grid = np.linspace(np.log(max(least, 1e-3)), np.log(NORMAL_FROM_DF), EXACT_QUANTILES)
    return np.interp(np.log(df), grid, stats.t.ppf(level, np.exp(grid)))


def check_confidence(confidence: float) -> None:
    """Raise unless strictly between 0 and 1.

    Examples
    --------
    >>> check_confidence(0.95)
    """
    if not 0 < confidence < 1:
        msg = f"`confidence` must lie strictly between 0 and 1, got {confidence!r}."
        raise ValueError(msg)


@dataclass(frozen=True)
class NullShare:
    """How many p-values of a family of tests would lie below a threshold, were nothing true.

    Parameters
    ----------
    p_value
        (m,) sorted.
    expected
        (m,) expected number of p-values up to there.

    Examples
    --------
    P-values that are larger than uniform ones where nothing is true:

    >>> null = NullShare(np.array([0.1, 0.5]), np.array([0.05, 1.0]))
    >>> null.below(np.array([0.05, 0.3])).round(3).tolist()
    [0.025, 0.525]
    """

    p_value: np.ndarray
    expected: np.ndarray

    def below(self, threshold: np.ndarray) -> np.ndarray:
        """Expected number at or below each threshold, interpolated."""
        return np.interp(threshold, np.concatenate([[0.0], self.p_value]), np.concatenate([[0.0], self.expected]))


def adjust_p_values(p_value: np.ndarray, nulls: Sequence[NullShare | None] | None = None) -> np.ndarray:
    """Benjamini-Hochberg along the last axis; NaN stay NaN and do not count.

    Parameters
    ----------
    p_value
        (T, G) or (G,); every row is a family.
    nulls
        For rows whose p-values are not uniform where nothing is true, what to expect there instead of threshold times
        number of tests; the rest of Benjamini-Hochberg's rule stays: expected false over called, made monotone.

    Examples
    --------
    >>> adjust_p_values(np.array([0.01, 0.02, np.nan, 0.9])).round(3)
    array([0.03, 0.03,  nan, 0.9 ])
    """
    flat = p_value.reshape(-1, p_value.shape[-1])
    adjusted = np.full(flat.shape, np.nan)
    for i, values in enumerate(flat):
        known = np.isfinite(values)
        if known.any():
            ordered = np.sort(np.clip(values[known], 0, 1))
            null = None if nulls is None else nulls[i]
            false = ordered * len(ordered) if null is None else null.below(ordered)
            rate = np.minimum.accumulate((false / np.arange(1, len(ordered) + 1))[::-1])[::-1]
            adjusted[i, known] = np.minimum(rate[np.searchsorted(ordered, np.clip(values[known], 0, 1))], 1)
    return adjusted.reshape(p_value.shape)


# Measured perturbations: the observed contrast against control.


def welch_contrast(
    effect: np.ndarray, variance: np.ndarray, control_variance: np.ndarray, df: np.ndarray, control_df: float
) -> Estimate:
    """Welch's t for observed effects.

    Parameters
    ----------
    effect
        (n, G) differences of means.
    variance, control_variance
        (n, G) sampling variances of the perturbation's and of control's mean.
    df
        (n,) or (n, G) degrees of freedom of the former; 0 (a single cell) gives no interval.
    control_df
        Of the latter.

    Returns
    -------
    Estimate
        Degrees of freedom by Satterthwaite. A gene without any variance has a standard error of zero.

    References
    ----------
    Welch, Biometrika 34 (1947).

    Examples
    --------
    >>> estimate = welch_contrast(np.ones((1, 1)), np.ones((1, 1)), np.ones((1, 1)), np.array([10]), 10)
    >>> float(estimate.se[0, 0].round(3)), float(estimate.df[0, 0])
    (1.414, 20.0)
    """
    total = variance + control_variance
    df = df[:, None] if df.ndim == 1 else df
    with np.errstate(invalid="ignore", divide="ignore"):
        welch_df = total**2 / (variance**2 / df + control_variance**2 / control_df)
    known = (df > 0) & np.isfinite(total)
    return Estimate(effect, np.where(known, np.sqrt(total), np.nan), np.where(welch_df > 0, welch_df, np.inf))


# The published estimator, kept for comparison: it is not calibrated for a new perturbation.


def paper_estimate(
    generated: np.ndarray, observed: np.ndarray, generated_references: np.ndarray, variance: np.ndarray
) -> Estimate:
    r"""Debiased mean of the located cluster's residuals, all weights one.

    :math:`\hat\theta = m_t + K^{-1} \sum_i (\delta_i - m_i)` with in-sample :math:`m_i`, and
    :math:`Var = K^{-2} \sum_i (s^2/n_i + t^2)`, :math:`t^2` the variance of the observed means between the K members of the
    cluster. Normal quantiles. This is the error of a cluster's mean, not of a new member, and covers a new perturbation too
    seldom (``benchmarks/coverage.py``). Source: Shang, Wei & Roeder, PNAS 122(52) e2525268122 (2025).

    Parameters
    ----------
    generated
        (G,) generated effect of the target.
    observed, generated_references, variance
        (K, G) observed effects, generated effects and sampling variances of the cluster's members.

    Examples
    --------
    >>> one = np.ones((2, 3))
    >>> paper_estimate(np.zeros(3), one, 0 * one, 2 * one).se
    array([1., 1., 1.])
    """
    n = len(observed)
    effect = generated + (observed - generated_references).mean(axis=0)
    between = observed.var(axis=0, ddof=1) if n > 1 else np.full(observed.shape[1], np.nan)
    se = np.sqrt((variance + between).sum(axis=0)) / n
    return Estimate(effect, se, np.full(effect.shape, np.inf))


# The tidy table of effects: one row per target and gene.


def effects_table(
    targets: list[str],
    variables: np.ndarray,
    estimate: Estimate,
    mean_control: np.ndarray,
    confidence: float,
    columns: dict[str, np.ndarray],
    fdr: str = "target",
    threshold: float = 0.0,
    nulls: Sequence[NullShare | None] | None = None,
    tested: np.ndarray | None = None,
    q_values: Sequence[np.ndarray | None] | None = None,
    lfsr: Sequence[np.ndarray | None] | None = None,
) -> pd.DataFrame:
    """Estimates (T, G) as a table.

    Parameters
    ----------
    targets, variables
        Names of the two axes.
    estimate
        Effects with errors, (T, G), log1p CP10K, natural log.
    mean_control
        (T, G).
    confidence
        Of the interval.
    columns
        Further columns: arrays that broadcast to (T, G).
    fdr
        ``"target"``: Benjamini-Hochberg inside each target. ``"all"``: over all targets.
    threshold
        Smallest effect of interest; p-values then test ``|effect| <= threshold``.
    nulls
        For targets whose p-values are not uniform where nothing is true, what to expect, see :func:`adjust_p_values`; for a
        threshold of zero.
    tested
        (T, G) where there is a p-value, and a test that counts in the adjustment; None means everywhere.
    q_values
        (G,) of every target, which stand for adjusted p-values, or None for targets that have none, see
        :class:`~dbdiffusion.inference._discoveries.DiscoveryRule`.
    lfsr
        (G,) local false sign rates of every target, or None for those whose interval and p-value tell them: half of the p-value
        of no effect.

    Raises
    ------
    ValueError
        For another word, or a confidence outside (0, 1).

    Examples
    --------
    >>> from dbdiffusion.inference import Estimate
    >>> estimate = Estimate(np.ones((1, 2)), np.ones((1, 2)), np.full((1, 2), np.inf))
    >>> effects_table(["A"], np.array(["g", "h"]), estimate, np.zeros((1, 2)), 0.95, {})["effect"].tolist()
    [1.0, 1.0]
    """
    if fdr not in ("target", "all"):
        msg = f"`fdr` must be 'target' or 'all', got {fdr!r}."
        raise ValueError(msg)
    low, high = estimate.interval(confidence)
    of_no_effect = estimate.p_value()
    p_value = of_no_effect if threshold == 0 else estimate.p_value(threshold)
    p_value = np.where(True if tested is None else tested, p_value, np.nan)
    nulls = nulls if nulls is not None and threshold == 0 else [None] * len(targets)
    if fdr == "target":
        adjusted = adjust_p_values(p_value, nulls)
    else:
        adjusted = adjust_p_values(p_value.reshape(1, -1), [pooled_null(p_value, nulls)])
    shape = estimate.effect.shape
    adjusted = adjusted.reshape(shape)
    error_rate = np.full((shape[0], 1), "fdr_bh")
    for i, q_value in enumerate(q_values or ()):
        if q_value is not None:
            adjusted[i], error_rate[i] = q_value, "fsp"
    of_signs = of_no_effect / 2
    for i, known in enumerate(lfsr or ()):
        if known is not None:
            of_signs[i] = known
    values = {
        "effect": estimate.effect,
        "log_fc": estimate.effect / np.log(2),
        "se": estimate.se,
        "df": estimate.df,
        "ci_low": low,
        "ci_high": high,
        "statistic": estimate.statistic,
        "p_value": p_value,
        "adj_p_value": adjusted,
        "mean_target": mean_control + estimate.effect,
        "mean_control": mean_control,
        **columns,
        "lfsr": np.where(np.isnan(p_value), np.nan, of_signs),
        "error_rate": error_rate,
    }
    frame = pd.DataFrame({name: np.broadcast_to(array, shape).ravel() for name, array in values.items()})
    n_targets, n_genes = shape
    frame.insert(0, "variable", np.tile(variables, n_targets))
    frame.insert(0, "target", np.repeat(np.asarray(targets, dtype=object), n_genes))
    return frame


def pooled_null(p_value: np.ndarray, nulls: Sequence[NullShare | None]) -> NullShare | None:
    """What to expect of all families (T, G) together; None if every one is uniform.

    Examples
    --------
    >>> pooled_null(np.array([[0.1, 0.2], [0.3, 0.4]]), [None, None]) is None
    True
    """
    if not any(nulls):
        return None
    ordered = np.unique(p_value[np.isfinite(p_value)])
    expected = np.zeros(len(ordered))
    for row, null in zip(p_value, nulls, strict=True):
        expected += np.isfinite(row).sum() * ordered if null is None else null.below(ordered)
    return NullShare(ordered, expected)
