"""Effects of a target in order, the list of genes among them: what a volcano cannot show of an unseen target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.plotting._panel import GREY, RED, axes_of, rows_of, without_own

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

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
    ax = axes_of(ax)
    rows = without_own(rows_of(table, target)).sort_values("effect", kind="stable")
    effect, rank = rows["effect"].to_numpy(dtype=float), np.arange(1, len(rows) + 1)
    sure = 1 - rows["lfsr"].to_numpy(dtype=float)
    listed = rows["adj_p_value"].to_numpy(dtype=float) <= level
    ax.axhline(0, color=GREY, linewidth=0.6)
    drawn = ax.scatter(rank, effect, c=sure, s=7, cmap="viridis_r", vmin=LEAST_SURE, vmax=1, linewidths=0, plotnonfinite=True,
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
