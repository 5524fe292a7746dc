"""Plot of predictions held against later measurements: takes a table, returns axes, computes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.plotting._panel import BLUE, GREY, RED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def errors_by_target(table: pd.DataFrame, ax: Axes, title: str = "") -> Axes:
    """Squared errors of predicted targets over those of "no effect" and of the mean perturbation; left of the line is better.

    Parameters
    ----------
    table
        ``compare(...).table``: rows = targets, columns ``target, relative_to_zero, relative_to_mean`` and perhaps ``context``.
    ax, title
        To draw on, and its title.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> import pandas as pd
    >>> from dbdiffusion import plotting
    >>> _, ax = plt.subplots()
    >>> table = pd.DataFrame({"target": ["A", "B"], "relative_to_zero": [0.5, 0.9], "relative_to_mean": [0.8, 1.1]})
    >>> plotting.errors_by_target(table, ax).get_xlabel()
    'squared error, relative'
    """
    labels = table["target"].astype(str)
    if "context" in table:
        labels = labels + ", " + table["context"].astype(str)
    rows = np.arange(len(table))[::-1]
    for column, colour, mark, label in (
        ("relative_to_zero", BLUE, "o", "over no effect"),
        ("relative_to_mean", RED, "x", "over the mean"),
    ):
        if table[column].notna().any():
            ax.plot(table[column], rows, mark, color=colour, markersize=5, label=label)
            ax.legend(frameon=False, fontsize=7, loc="best")
    ax.axvline(1, color=GREY, linewidth=0.8)
    ax.set_yticks(rows, labels, fontsize=6, parse_math=False)
    ax.set(xlabel="squared error, relative", title=title)
    return ax
