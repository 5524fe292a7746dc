"""An estimate with its standard error and degrees of freedom; interval and p-value come from here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self


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
