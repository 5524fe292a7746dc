"""Plot of genetic interactions: takes a table of pairs, returns axes, computes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.plotting._panel import BLUE, GREY, RED, axes_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COLOURS = {"buffering": BLUE, "synergistic": RED, "additive": "#2f855a", "undecided": GREY}


def pair_interactions(pairs: pd.DataFrame, ax: Axes | None = None, level: float = 0.1, title: str = "") -> Axes:
    """What pairs do beyond the sum of their parts, as a share of it, with intervals; left of the line buffering, right synergy.

    Filled points are pairs that do something beyond the sum on some genes, in whatever direction.

    Parameters
    ----------
    pairs
        ``model.interactions().pairs``: columns ``pair, along, ci_low, ci_high, kind, q_value``.
    ax
        To draw on; None makes a new figure.
    level
        Of ``q_value``, from which on a point is filled.
    title
        Of the plot.

    Examples
    --------
    >>> import pandas as pd
    >>> from dbdiffusion import plotting
    >>> table = pd.DataFrame({"pair": ["A+B", "A+C"], "along": [-0.4, 0.1], "ci_low": [-0.6, -0.1], "ci_high": [-0.2, 0.3]})
    >>> table = table.assign(kind=["buffering", "undecided"], q_value=[0.01, 0.6])
    >>> plotting.pair_interactions(table).get_xlabel()
    'beyond the sum of the parts, as a share of it'
    """
    ax = axes_of(ax)
    known = np.isfinite(pairs["along"].to_numpy(dtype=float))
    shown = pairs[known].sort_values("along", ascending=False, kind="stable")
    rows = np.arange(len(shown))
    ax.axvline(0, color=GREY, linewidth=0.8)
    for kind, colour in COLOURS.items():
        of_kind = (shown["kind"] == kind).to_numpy()
        some, at = shown[of_kind], rows[of_kind]
        if some.empty:
            continue
        ax.hlines(at, some["ci_low"], some["ci_high"], color=colour, linewidth=1.2)
        filled = np.where((some["q_value"] <= level).to_numpy(), colour, "white")
        ax.scatter(some["along"], at, c=filled, edgecolors=colour, s=22, zorder=3, label=kind)
    ax.set_yticks(rows, shown["pair"].astype(str), fontsize=6, parse_math=False)
    if len(shown):
        ax.legend(frameon=False, fontsize=7, loc="best")
    n_left = int((~known).sum())
    left_out = f"\n(not shown: {n_left} of {len(pairs)}, whose parts are too weak to have a sum)" if n_left else ""
    ax.set(xlabel=f"beyond the sum of the parts, as a share of it{left_out}", ylim=(-0.7, max(len(shown), 1) - 0.3))
    ax.set_title(title, parse_math=False)
    return ax
