"""Plots of effects: take tables, return axes, compute nothing but what is written in the panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.plotting._panel import BLUE, GREY, RED, axes_of, name_points, rows_of, t_quantile, without_own

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


LEGEND_ROWS = 2.2  # of genes, left free below them
THICK = 0.8  # confidence of the thick part of an interval


def predicted_against_observed(
    table: pd.DataFrame, ax: Axes | None = None, target: str | None = None, title: str | None = None
) -> Axes:
    """Scatter of predicted against observed effects of one target, the interval as a vertical line.

    In the panel stand the correlation and the squared error over that of no effect, the noise of the observation in both, and
    the share of observed effects inside the interval. That share allows for the noise where ``observed_se`` says how large it
    is. The target's own genes are left out: others say nothing of them.

    Parameters
    ----------
    table
        Rows = genes; columns ``effect, ci_low, ci_high, observed``, and perhaps ``target, variable, se, observed_se``.
    ax
        To draw on; None makes a new figure.
    target
        Whose rows to draw; not needed if the table has those of one target.
    title
        Of the plot; None takes the target.

    Examples
    --------
    >>> from dbdiffusion import plotting
    >>> name = model.perturbation_names[0]
    >>> table = model.predict_effects(name)
    >>> plotting.predicted_against_observed(table.assign(observed=table["effect"]), target=name).get_title()
    'GENE02'
    """
    ax = axes_of(ax)
    rows = without_own(rows_of(table, target))
    x, y = rows["observed"].to_numpy(), rows["effect"].to_numpy()
    ax.vlines(x, rows["ci_low"], rows["ci_high"], color=BLUE, alpha=0.08, linewidth=0.6, rasterized=True)
    ax.scatter(x, y, s=5, color=BLUE, linewidths=0, rasterized=True)
    limit = 1.1 * float(np.nanmax(np.abs(np.concatenate([x, y])), initial=0.0)) or 1.0
    ax.plot([-limit, limit], [-limit, limit], color=GREY, linewidth=0.8)
    ax.axhline(0, color=GREY, linewidth=0.4)
    ax.axvline(0, color=GREY, linewidth=0.4)
    ax.text(0.03, 0.97, _agreement(rows), transform=ax.transAxes, va="top", fontsize=7)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), xlabel="observed effect", ylabel="predicted effect")
    ax.set_title(str(target or "") if title is None else title, parse_math=False)
    return ax


def gene_intervals(
    table: pd.DataFrame, ax: Axes | None = None, target: str | None = None, n_genes: int = 25, title: str | None = None
) -> Axes:
    """Genes with the largest effects and their intervals: a thick line of 80 %, a thin one of the table's own (95 %).

    Observed effects are crosses where there are any, with bars of two standard errors where these are known. The target's own
    genes are left out.

    Parameters
    ----------
    table
        Rows = genes; columns ``variable, effect, se, df, ci_low, ci_high`` and perhaps ``target, observed, observed_se``.
    ax
        To draw on; None makes a new figure.
    target
        Whose rows to draw; not needed if the table has those of one target.
    n_genes
        Genes to show.
    title
        Of the plot; None takes the target.

    Examples
    --------
    >>> from dbdiffusion import plotting
    >>> plotting.gene_intervals(model.predict_effects(unseen[0], n_cells=64), n_genes=5).get_xlabel()
    'effect (mean log1p CP10K)'
    """
    ax = axes_of(ax)
    top = without_own(rows_of(table, target)).sort_values("effect", key=np.abs, ascending=False, kind="stable").head(n_genes)
    top = top[::-1]  # the largest on top
    height = np.arange(len(top))
    half = t_quantile(0.5 + THICK / 2, top["df"].to_numpy()) * top["se"].to_numpy()
    ax.hlines(height, top["ci_low"], top["ci_high"], color=BLUE, linewidth=1)
    ax.hlines(height, top["effect"] - half, top["effect"] + half, color=BLUE, linewidth=3)
    ax.plot(top["effect"], height, "o", color="white", markeredgecolor=BLUE, markersize=4, label="predicted")
    if "observed" in top and top["observed"].notna().any():
        if "observed_se" in top:
            ax.errorbar(top["observed"], height, xerr=2 * top["observed_se"], fmt="none", ecolor=RED, linewidth=0.7)
        ax.plot(top["observed"], height, "x", color=RED, markersize=5, label="observed")
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_yticks(height, top["variable"], fontsize=6, parse_math=False)  # a name may hold a `$`
    ax.set(xlabel="effect (mean log1p CP10K)", ylim=(-LEGEND_ROWS, len(top) - 0.4))
    ax.set_title(str(target or "") if title is None else title, parse_math=False)
    ax.legend(frameon=False, fontsize=7, loc="lower center", ncols=2, borderaxespad=0.2)  # below the last gene
    return ax


def volcano(
    table: pd.DataFrame,
    ax: Axes | None = None,
    target: str | None = None,
    level: float | None = None,
    n_labels: int = 8,
    title: str | None = None,
) -> Axes:
    """Effect against p-value; genes at the level of the adjusted p-value are coloured, the strongest named.

    For unseen targets (``error_rate`` is ``"fsp"``) the genes are those of the list at that false sign proportion; their
    p-values are large, so look at :func:`ranked_effects` instead.

    Parameters
    ----------
    table
        Rows = genes; columns ``variable, effect, p_value, adj_p_value`` and perhaps ``target, error_rate``.
    ax
        To draw on; None makes a new figure.
    target
        Whose rows to draw; not needed if the table has those of one target.
    level
        Of the adjusted p-value; None means 10 % for lists of unseen targets, 5 % else.
    n_labels
        Genes to name.
    title
        Of the plot; None takes the target.

    Examples
    --------
    >>> from dbdiffusion import plotting
    >>> plotting.volcano(model.predict_effects(model.perturbation_names[0])).get_ylabel()
    '-log10 p'
    """
    ax = axes_of(ax)
    table = rows_of(table, target)
    p = np.maximum(table["p_value"].to_numpy(dtype=float), 1e-300)
    is_list = "error_rate" in table and (table["error_rate"] == "fsp").all()
    level = level or (0.1 if is_list else 0.05)
    significant = table["adj_p_value"].to_numpy() <= level
    height = -np.log10(p)
    ax.scatter(table["effect"][~significant], height[~significant], s=5, color=GREY, linewidths=0, rasterized=True)
    ax.scatter(table["effect"][significant], height[significant], s=7, color=RED, linewidths=0, rasterized=True)
    ax.axvline(0, color=GREY, linewidth=0.4)
    first = [i for i in np.argsort(-height)[:n_labels] if significant[i]]
    places = np.column_stack([table["effect"].to_numpy(dtype=float), height])
    name_points(ax, [(str(table["variable"].iloc[i]), *places[i], "black") for i in first], places[first])
    heading, what = str(target or "") if title is None else title, "wrong signs" if is_list else "FDR"
    ax.set(xlabel="effect (mean log1p CP10K)", ylabel="-log10 p")
    ax.set_title(f"{heading}\n{int(significant.sum())} genes at {100 * level:g}% {what}".strip(), parse_math=False)
    return ax


def _agreement(rows: pd.DataFrame) -> str:
    """Correlation, error ratio and coverage of rows with an observed effect, in words."""
    seen = rows[rows["observed"].notna()]
    if len(seen) < 3:
        return ""
    x, y = seen["observed"].to_numpy(dtype=float), seen["effect"].to_numpy(dtype=float)
    wider = 1.0  # an observed effect has an error of its own
    if {"se", "observed_se"} <= set(seen):
        wider = np.sqrt(1 + (seen["observed_se"] / seen["se"]).fillna(0).to_numpy(dtype=float) ** 2)
    low, high = (y + wider * (seen[side].to_numpy(dtype=float) - y) for side in ("ci_low", "ci_high"))
    inside = ((low <= x) & (x <= high)).mean()
    r = np.corrcoef(x, y)[0, 1] if x.std() > 0 and y.std() > 0 else np.nan
    ratio = ((x - y) ** 2).sum() / (x**2).sum() if x.any() else np.nan
    return f"r {r:.2f}\nerror / no effect {ratio:.2f}\nin interval {100 * inside:.0f} %"


# Effects of a target in order, the list of genes among them: what a volcano cannot show of an unseen target.


LEAST_SURE = 0.5  # of a sign of which nothing is known
LABEL_GAP = 0.035  # between two labels, of the range of the effects


def ranked_effects(
    table: pd.DataFrame,
    ax: Axes | None = None,
    target: str | None = None,
    level: float = 0.1,
    n_labels: int = 8,
    title: str | None = None,
) -> Axes:
    """Effects from the most negative to the most positive, the darker the surer their signs; listed genes are ringed.

    Genes that cannot be listed have no ``lfsr``, and are grey.

    Parameters
    ----------
    table
        Of :meth:`DBDiffusion.predict_effects`; columns ``variable, effect, lfsr, adj_p_value``, and perhaps ``target``.
    ax
        To draw on; None makes a new figure.
    target
        Whose rows to draw; not needed if the table has those of one target.
    level
        At which genes are listed, by ``adj_p_value``.
    n_labels
        Of the listed genes, the largest effects to name.
    title
        Of the plot; None takes the target.

    Examples
    --------
    >>> from dbdiffusion import plotting
    >>> ax = plotting.ranked_effects(model.predict_effects(unseen, n_cells=64), target=unseen[0])
    >>> ax.get_ylabel()
    'effect (mean log1p CP10K)'
    """
    from matplotlib import colormaps

    ax = axes_of(ax)
    rows = without_own(rows_of(table, target)).sort_values("effect", kind="stable")
    effect, rank = rows["effect"].to_numpy(dtype=float), np.arange(1, len(rows) + 1)
    sure = 1 - rows["lfsr"].to_numpy(dtype=float)
    listed = rows["adj_p_value"].to_numpy(dtype=float) <= level
    ax.axhline(0, color=GREY, linewidth=0.6)
    colours = colormaps["viridis_r"].with_extremes(bad=GREY)
    drawn = ax.scatter(rank, effect, c=sure, s=7, cmap=colours, vmin=LEAST_SURE, vmax=1, linewidths=0, plotnonfinite=True,
                       rasterized=True)  # fmt: skip
    ax.scatter(rank[listed], effect[listed], s=22, facecolors="none", edgecolors=RED, linewidths=0.7, label="listed")
    largest = np.sort(np.flatnonzero(listed)[np.argsort(-np.abs(effect[listed]), kind="stable")[:n_labels]])
    heights = _spread(effect[largest], LABEL_GAP * float(np.ptp(effect)) if len(largest) else 0.0)
    for i, height in zip(largest, heights, strict=True):
        ax.annotate(str(rows["variable"].iloc[i]), (rank[i], effect[i]), (rank[i] + 0.04 * len(rows), height), va="center",
                    fontsize=6, parse_math=False, arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.4})  # fmt: skip
    ax.figure.colorbar(drawn, ax=ax, label="chance that the sign is right (1 - lfsr)", shrink=0.7)
    name = str(rows["target"].iloc[0]) if "target" in rows and len(rows) else str(target or "")
    heading = name if title is None else title
    last = 1.3 if len(largest) else 1.02  # room for names
    ax.set(xlabel="genes by effect", ylabel="effect (mean log1p CP10K)", xlim=(-0.02 * len(rows), last * len(rows) + 1))
    ax.set_title(f"{heading}\n{int(listed.sum())} genes at {100 * level:g}% wrong signs".strip(), parse_math=False)
    return ax


def _spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """Rising heights moved apart until none is nearer to the next than the gap, as a group around where they were.

    Examples
    --------
    >>> _spread(np.array([0.0, 0.1, 5.0]), 1.0).round(2).tolist()
    [-0.45, 0.55, 5.0]
    """
    groups = [[height] for height in heights]  # what lies too near becomes one group, spread around its mean
    while True:
        placed = [np.mean(group) + gap * (np.arange(len(group)) - (len(group) - 1) / 2) for group in groups]
        near = [i for i in range(len(groups) - 1) if placed[i + 1][0] - placed[i][-1] < gap * (1 - 1e-9)]
        if not near:
            return np.concatenate([*placed, np.zeros(0)])
        groups[near[0] : near[0] + 2] = [groups[near[0]] + groups[near[0] + 1]]
