"""What all plots share: colours, an axes to draw on, the rows of one target, labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from adjustText import adjust_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pandas as pd
    from matplotlib.axes import Axes


BLUE, RED, GREY = "#2b6cb0", "#c53030", "#8a8f98"


def axes_of(ax: Axes | None) -> Axes:
    """The axes, or one of a new figure."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(layout="constrained")[1]


def rows_of(table: pd.DataFrame, target: str | None) -> pd.DataFrame:
    """Rows of one target in one context; all where the table names no targets.

    Raises
    ------
    KeyError
        If the table does not hold the target.
    ValueError
        If it holds several targets and none was named, or several contexts of it.
    """
    if "target" not in table:
        return table
    names = table["target"].astype(str)
    if target is None and names.nunique() > 1:
        msg = f"The table holds {names.nunique()} targets, {sorted(names.unique())[:5]}; say which with `target`."
        raise ValueError(msg)
    rows = table if target is None else table[(names == str(target)).to_numpy()]
    if target is not None and rows.empty:
        msg = f"The table has no rows of target {target!r}; it holds {sorted(names.unique())[:5]}."
        raise KeyError(msg)
    if "context" in rows and rows["context"].nunique() > 1:
        msg = f"The table holds {rows['context'].nunique()} contexts; draw one: `table[table['context'] == ...]`."
        raise ValueError(msg)
    return rows


def without_own(table: pd.DataFrame) -> pd.DataFrame:
    """Without the genes that the target itself hits, which no other perturbation predicts."""
    if "target" not in table or table.empty:
        return table
    name = str(table["target"].iloc[0])
    separator = table.attrs.get("combination_sep", "+")
    own = {name, *(part.strip() for part in name.split(separator))} if separator else {name}
    return table[~table["variable"].astype(str).isin(own).to_numpy()]


def t_quantile(level: float, df: np.ndarray) -> np.ndarray:
    """Quantiles of Student's t for drawing, by Cornish and Fisher's expansion: within 2 % from 1.5 degrees of freedom on.

    Examples
    --------
    >>> t_quantile(0.9, np.array([3.0, np.inf])).round(2)
    array([1.64, 1.28])
    """
    from statistics import NormalDist

    z = NormalDist().inv_cdf(level)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / np.asarray(df, dtype=float) ** i for i, term in enumerate(terms))  # type: ignore[return-value]


FONT = 6  # points
STEPS = 300  # of moving labels apart; a number of steps, not seconds, so that a plot is the same every time


def name_points(ax: Axes, named: Iterable[tuple[str, float, float, str]], dots: np.ndarray) -> None:
    """Write names beside points, moved apart from each other and from all dots, with a line where a name lies far off.

    Parameters
    ----------
    ax
        With limits that will not change.
    named
        Text, x, y and colour.
    dots
        (m, 2) places that shall not be covered.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> ax = Figure().subplots()
    >>> name_points(ax, [("A", 0.2, 0.5, "red"), ("B", 0.2, 0.5, "blue")], np.array([[0.2, 0.5]]))
    >>> first, second = (text.get_position() for text in ax.texts)
    >>> first == second
    False
    """
    ax.autoscale_view()
    texts = [ax.text(x, y, name, fontsize=FONT, color=colour, parse_math=False) for name, x, y, colour in named]
    if not texts:
        return
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.4}
    adjust_text(texts, *dots.T, ax=ax, iter_lim=STEPS, arrowprops=line)
