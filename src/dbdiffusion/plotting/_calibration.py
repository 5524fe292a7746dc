"""Plots of calibration: take tables, return axes, compute nothing but quantiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.plotting._panel import BLUE, GREY, RED, axes_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def coverage_by_level(table: pd.DataFrame, ax: Axes | None = None, title: str = "") -> Axes:
    """Coverage against nominal level, two standard errors as bars; on the diagonal intervals say what they hold.

    Parameters
    ----------
    table
        Rows = levels; columns ``level, coverage, coverage_se`` and perhaps ``coverage_mean`` of a baseline.
    ax, title
        To draw on, and its title; None makes a new figure.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from dbdiffusion import plotting
    >>> _, ax = plt.subplots()
    >>> import pandas as pd
    >>> table = pd.DataFrame({"level": [0.5, 0.95], "coverage": [0.48, 0.96], "coverage_se": [0.02, 0.01]})
    >>> plotting.coverage_by_level(table, ax).get_xlabel()
    'nominal level'
    """
    ax = axes_of(ax)
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    ax.errorbar(
        table["level"], table["coverage"], yerr=2 * table["coverage_se"], fmt="o-", color=BLUE, markersize=4, capsize=2,
        label="predictions",
    )  # fmt: skip
    if "coverage_mean" in table:
        ax.plot(table["level"], table["coverage_mean"], "x", color=RED, markersize=5, label="mean of the measured ones")
    ax.set(xlim=(0.4, 1), ylim=(0.4, 1), xlabel="nominal level", ylabel="coverage", title=title)
    ax.legend(frameon=False, fontsize=7, loc="upper left")
    return ax


def pit_histogram(pit: np.ndarray, ax: Axes | None = None, title: str = "", n_bins: int = 20) -> Axes:
    """Histogram of levels at which intervals just cover; flat when calibrated at every level.

    Parameters
    ----------
    pit
        (K, G); NaN are left out.
    ax, title
        To draw on, and its title; None makes a new figure.
    n_bins
        Of equal width.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from dbdiffusion import plotting
    >>> _, ax = plt.subplots()
    >>> import numpy as np
    >>> plotting.pit_histogram(np.random.default_rng(0).uniform(size=(10, 60)), ax).get_ylabel()
    'density'
    """
    ax = axes_of(ax)
    values = np.asarray(pit, dtype=float)
    ax.hist(values[np.isfinite(values)], bins=n_bins, range=(0, 1), density=True, color=BLUE, edgecolor="white", linewidth=0.4)
    ax.axhline(1, color=GREY, linewidth=0.8)
    ax.set(xlim=(0, 1), xlabel="level at which the interval just covers", ylabel="density", title=title)
    return ax


def sign_reliability(table: pd.DataFrame, ax: Axes | None = None, title: str = "") -> Axes:
    """How often observed signs differ from predicted ones, against how often they should; two standard errors as bars.

    On the diagonal the local false sign rate says what it is. The size of a point grows with the number of signs.

    Parameters
    ----------
    table
        Rows = classes of lfsr; columns ``n_signs, expected, observed, observed_se``, as in ``calibration().signs``.
    ax, title
        To draw on, and its title; None makes a new figure.

    Examples
    --------
    >>> from dbdiffusion import plotting
    >>> ax = plotting.sign_reliability(model.calibration(n_cells=64).signs)
    >>> ax.get_ylabel()
    'observed share of signs that differ'
    """
    ax = axes_of(ax)
    rows = table[table["n_signs"] > 0]
    ax.plot([0, 0.5], [0, 0.5], color=GREY, linewidth=0.8)
    ax.errorbar(
        rows["expected"], rows["observed"], yerr=2 * rows["observed_se"], fmt="none", color=BLUE, capsize=2, linewidth=1
    )
    ax.scatter(rows["expected"], rows["observed"], s=8 + 60 * rows["n_signs"] / max(rows["n_signs"].sum(), 1), color=BLUE)
    ax.set(xlim=(0, 0.55), ylim=(0, 0.65), xlabel="expected share of signs that differ", title=title)
    ax.set_ylabel("observed share of signs that differ")
    return ax


def null_quantiles(p_values: np.ndarray, ax: Axes | None = None, title: str = "") -> Axes:
    """Observed against uniform quantiles of null p-values, -log10, and the 95 % band of independent ones.

    Parameters
    ----------
    p_values
        (splits, G); NaN are left out.
    ax, title
        To draw on, and its title; None makes a new figure.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from dbdiffusion import plotting
    >>> _, ax = plt.subplots()
    >>> plotting.null_quantiles(model.null_calibration(n_splits=3).p_values, ax).get_xlabel()
    'expected -log10 p'
    """
    ax = axes_of(ax)
    values = np.asarray(p_values, dtype=float)
    observed = np.sort(values[np.isfinite(values)])
    n = len(observed)
    shown = np.unique(np.geomspace(1, max(n, 1), 400).astype(int)) - 1 if n else np.array([], dtype=int)
    expected = (shown + 0.5) / max(n, 1)
    spread = 1.96 * np.sqrt(expected * (1 - expected) / max(n, 1))
    smallest = 0.1 / max(n, 1)
    low, high = np.maximum(expected - spread, smallest), np.minimum(expected + spread, 1)
    x = -np.log10(expected)
    ax.fill_between(x, -np.log10(high), -np.log10(low), color=GREY, alpha=0.25, linewidth=0)
    ax.plot(x, x, color=GREY, linewidth=0.8)
    ax.plot(x, -np.log10(np.maximum(observed[shown], 1e-300)), ".", color=BLUE, markersize=4)
    ax.set(xlabel="expected -log10 p", ylabel="observed -log10 p", title=title)
    return ax
