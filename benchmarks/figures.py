"""Plots of the stored results, for docs/benchmarks.md: every panel is drawn from the table that the page shows below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from scipy import stats

mpl.use("agg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, PALE, PAPER, BOUND, OTHER = "#1f5fa8", "#8fb4dd", "#b8352d", "#2b8a4b", "#8a8a8a"
LOOKS = {  # marker and colour of a method
    "dbdiffusion": ("o", OURS),
    "generated": ("o", PALE),
    "zero": ("|", OTHER),
    "mean": ("x", OTHER),
    "cluster": ("s", OTHER),
    "knn": ("^", OTHER),
    "ridge": ("v", OTHER),
    "additive": ("P", OTHER),
    "paper": ("D", PAPER),
    "own_module": ("<", BOUND),
    "oracle": ("*", BOUND),
}
WAYS = {"default": ("o", OURS), "mean": ("x", OTHER), "in_sample": ("s", "#c9a227"), "paper": ("D", PAPER)}
LEVELS = ("50 %", "80 %", "95 %")
SHOWN = (-0.12, 0.16)  # differences of squared errors


def against_baselines(table: pd.DataFrame) -> Figure:
    """Squared error of every method on every screen over that of the mean of the measured perturbations."""
    screens = list(dict.fromkeys(table.index.get_level_values("screen")))
    figure, ax = plt.subplots(figsize=(10, 1.5 + 0.34 * len(screens)), layout="constrained")
    for y, screen in enumerate(screens):
        rows = table.loc[screen]
        for method, row in rows.rename(index=lambda name: name.removesuffix(" (best)")).iterrows():
            ratio = 1.0 if method == "mean" else row["mse/mean"]
            if method not in LOOKS or not np.isfinite(ratio):
                continue
            marker, colour = LOOKS[method]
            ax.plot(ratio, y, marker, color=colour, ms=8 if method == "dbdiffusion" else 5.5, label=method, zorder=3)
            if method == "dbdiffusion":
                ax.plot([row["mse/mean low"], row["mse/mean high"]], [y, y], color=colour, lw=2, zorder=2)
    ax.axvline(1, color=OTHER, lw=0.8, zorder=1)
    ax.set(xscale="log", xlabel="squared error / that of the mean of the measured perturbations (noise of the observation out)")
    ax.set_xticks([0.05, 0.1, 0.2, 0.5, 1, 2, 4], ["0.05", "0.1", "0.2", "0.5", "1", "2", "4"])
    a_row_each(ax, screens)
    return with_legend(figure, ax, LOOKS)


def coverage(table: pd.DataFrame) -> Figure:
    """Share of true effects that intervals hold, by nominal level and screen."""
    screens = list(dict.fromkeys(table.index.get_level_values("screen")))
    figure, panels = plt.subplots(
        1, len(LEVELS), figsize=(11, 1.5 + 0.3 * len(screens)), sharey=True, layout="constrained", squeeze=False
    )
    for ax, level in zip(panels[0], LEVELS, strict=True):
        nominal = float(level.split()[0]) / 100
        for way, (marker, colour) in WAYS.items():
            here = [(y, table.loc[(screen, way)]) for y, screen in enumerate(screens) if (screen, way) in table.index]
            x, y = [row[level] for _, row in here], [y for y, _ in here]
            ax.plot(x, y, marker, color=colour, ms=7 if way == "default" else 5, label=way, zorder=3)
            if way == "default" and level == "95 %":
                error = [2 * row["se of 95 %"] for _, row in here]
                ax.errorbar(x, y, xerr=error, fmt="none", ecolor=colour, elinewidth=1.5, zorder=2)
        ax.axvline(nominal, color=OTHER, lw=0.8, zorder=1)
        ax.set(xlabel=f"held by {level} intervals")
        a_row_each(ax, screens)
    return with_legend(figure, panels[0, 0], WAYS)


def ablations(table: pd.DataFrame) -> Figure:
    """Squared error of every variant less that of the default, 95 % intervals over screens; an arrow where it lies outside."""
    table = table[np.isfinite(table["rectified se"]) & (table.index.get_level_values("factor") != "default")]
    alignments = list(dict.fromkeys(table.index.get_level_values("alignment")))
    names = list(dict.fromkeys(zip(*(table.index.get_level_values(key) for key in ("factor", "level")), strict=True)))
    figure, panels = plt.subplots(
        1, 2 * len(alignments), figsize=(4.5 + 3 * len(alignments), 1 + 0.23 * len(names)), sharey=True, layout="constrained"
    )
    for column, (alignment, what) in enumerate((a, w) for a in alignments for w in ("generated", "rectified")):
        ax = panels[column]
        part = table.loc[alignment].reindex(names)
        y, difference = np.arange(len(names)), part[f"{what} - default"]
        error = stats.t.ppf(0.975, part["screens"] - 1) * part[f"{what} se"]
        colour = OURS if what == "rectified" else PALE
        ax.errorbar(difference, y, xerr=error, fmt="o", ms=4, lw=1.2, color=colour)
        for row in np.flatnonzero(difference > SHOWN[1]):
            value, white = f"{difference.iloc[row]:+.2f} \u2192", {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            ax.annotate(value, (SHOWN[1], row), ha="right", va="center", color=colour, fontsize=8, bbox=white)
        ax.axvline(0, color=OTHER, lw=0.8)
        ax.set(title=f"{what}\nalignment {alignment:g}", xlabel="variant less default", xlim=SHOWN)
        a_row_each(ax, [f"{factor}: {level}" for factor, level in names])
    return figure


def a_row_each(ax: Axes, names: list[str]) -> None:
    """A row for each name, the first on top."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", color="#eeeeee")
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def with_legend(figure: Figure, ax: Axes, order: dict[str, object]) -> Figure:
    """One entry for each method that was drawn."""
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    shown = [name for name in order if name in handles]
    figure.legend([handles[name] for name in shown], shown, loc="outside right center", frameon=False)
    return figure
