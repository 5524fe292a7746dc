"""The tidy table of effects: one row per target and gene."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion.inference._estimate import NullShare, adjust_p_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.inference._estimate import Estimate


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
