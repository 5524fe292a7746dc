"""Plots of effects: take tables, return axes, compute nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BLUE, RED, GREY = "#2b6cb0", "#c53030", "#8a8f98"


def predicted_against_observed(table: pd.DataFrame, ax: Axes, title: str = "") -> Axes:
    """Scatter of predicted against observed effects of one target, the interval as a vertical line.

    Parameters
    ----------
    table
        Rows = genes; columns ``effect, ci_low, ci_high, observed``.
    ax
        To draw on.
    title
        Of the plot.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from dbdiffusion import plotting
    >>> _, ax = plt.subplots()
    >>> name = model.perturbation_names[0]
    >>> table = model.predict_effects(name)
    >>> plotting.predicted_against_observed(table.assign(observed=table["effect"]), ax, name).get_title()
    'GENE02'
    """
    x, y = table["observed"].to_numpy(), table["effect"].to_numpy()
    ax.vlines(x, table["ci_low"], table["ci_high"], color=BLUE, alpha=0.08, linewidth=0.6, rasterized=True)
    ax.scatter(x, y, s=5, color=BLUE, linewidths=0, rasterized=True)
    limit = 1.1 * float(np.nanmax(np.abs(np.concatenate([x, y])))) or 1.0
    ax.plot([-limit, limit], [-limit, limit], color=GREY, linewidth=0.8)
    ax.axhline(0, color=GREY, linewidth=0.4)
    ax.axvline(0, color=GREY, linewidth=0.4)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), xlabel="observed effect", ylabel="predicted effect", title=title)
    return ax


def gene_intervals(table: pd.DataFrame, ax: Axes, n_genes: int = 25, title: str = "") -> Axes:
    """Genes with the smallest p-values and their intervals; observed effects as crosses where there are any.

    Parameters
    ----------
    table
        Rows = genes of one target; columns ``variable, effect, ci_low, ci_high, p_value`` and perhaps ``observed``.
    ax, title
        To draw on, and its title.
    n_genes
        Genes to show.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from dbdiffusion import plotting
    >>> _, ax = plt.subplots()
    >>> plotting.gene_intervals(model.predict_effects(unseen[0], n_cells=64), ax, n_genes=5).get_xlabel()
    'effect (mean log1p CP10K)'
    """
    top = table.sort_values("p_value").head(n_genes).sort_values("effect")
    rows = np.arange(len(top))
    ax.hlines(rows, top["ci_low"], top["ci_high"], color=BLUE, linewidth=1.5)
    ax.plot(top["effect"], rows, "o", color=BLUE, markersize=4, label="predicted")
    if "observed" in top and top["observed"].notna().any():
        ax.plot(top["observed"], rows, "x", color=RED, markersize=5, label="observed")
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_yticks(rows, top["variable"], fontsize=6, parse_math=False)  # a name may hold a `$`
    ax.set(xlabel="effect (mean log1p CP10K)", title=title)
    ax.legend(frameon=False, fontsize=7, loc="best")
    return ax


def volcano(table: pd.DataFrame, ax: Axes, level: float | None = None, n_labels: int = 8, title: str = "") -> Axes:
    """Effect against p-value; genes at the level of the adjusted p-value are coloured, the strongest named.

    For unseen targets (``error_rate`` is ``"fsp"``) the genes are those of the list at that false sign proportion.

    Parameters
    ----------
    table
        Rows = genes of one target; columns ``variable, effect, p_value, adj_p_value`` and perhaps ``error_rate``.
    ax, title
        To draw on, and its title.
    level
        Of the adjusted p-value; None means 10 % for lists of unseen targets, 5 % else.
    n_labels
        Genes to name.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from dbdiffusion import plotting
    >>> _, ax = plt.subplots()
    >>> plotting.volcano(model.predict_effects(model.perturbation_names[0]), ax).get_ylabel()
    '-log10 p'
    """
    p = np.maximum(table["p_value"].to_numpy(dtype=float), 1e-300)
    is_list = "error_rate" in table and (table["error_rate"] == "fsp").all()
    level = level or (0.1 if is_list else 0.05)
    significant = table["adj_p_value"].to_numpy() <= level
    height = -np.log10(p)
    ax.scatter(table["effect"][~significant], height[~significant], s=5, color=GREY, linewidths=0, rasterized=True)
    ax.scatter(table["effect"][significant], height[significant], s=7, color=RED, linewidths=0, rasterized=True)
    for i in np.argsort(-height)[: n_labels if significant.any() else 0]:
        if significant[i]:
            ax.annotate(table["variable"].iloc[i], (table["effect"].iloc[i], height[i]), fontsize=6, parse_math=False)
    ax.axvline(0, color=GREY, linewidth=0.4)
    count = int(significant.sum())
    ax.set(
        xlabel="effect (mean log1p CP10K)",
        ylabel="-log10 p",
        title=f"{title}\n{count} genes at {100 * level:g}% {'wrong signs' if is_list else 'FDR'}".strip(),
    )
    return ax
