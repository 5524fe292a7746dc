"""What all plots share: colours, an axes to draw on, the rows of one target, labels; and the map of perturbations."""

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
    return table[~table["variable"].astype(str).isin({name, *name.split("+")}).to_numpy()]


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


# Plot of where perturbations lie: takes a table, returns axes, computes nothing.


def perturbation_map(table: pd.DataFrame, ax: Axes | None = None, title: str = "", n_labels: int = 30) -> Axes:
    """Measured and unseen perturbations on a map. Those that lie together are predicted alike.

    Parameters
    ----------
    table
        Rows = perturbations; columns ``target, x, y`` and ``status`` with ``control``, ``measured`` or ``unseen``.
    ax, title
        To draw on, and its title; None makes a new figure.
    n_labels
        Unseen ones are named up to this number. Measured ones are named if there are no more of them.

    Examples
    --------
    >>> import pandas as pd
    >>> from dbdiffusion import plotting
    >>> axes = pd.DataFrame(model.perturbation_embeddings().iloc[:, :2].to_numpy(), columns=["x", "y"])
    >>> table = axes.assign(target=model.perturbation_embeddings().index, status="measured")
    >>> plotting.perturbation_map(table).get_xlabel()
    'principal axis 1'
    """
    ax = axes_of(ax)
    named: list[tuple[str, float, float, str]] = []
    for status, colour, mark, size in (("measured", BLUE, "o", 16), ("control", GREY, "P", 40), ("unseen", RED, "D", 22)):
        rows = table[table["status"] == status]
        if rows.empty:
            continue
        ax.scatter(rows["x"], rows["y"], s=size, color=colour, marker=mark, alpha=0.8, linewidths=0, label=status)
        is_named = status == "unseen" or (status == "measured" and len(rows) <= n_labels)
        named += [(str(name), x, y, colour) for name, x, y in
                  rows[["target", "x", "y"]].head(n_labels if is_named else 0).itertuples(index=False, name=None)]  # fmt: skip
    name_points(ax, named, table[["x", "y"]].to_numpy(dtype=float))
    ax.set(xticks=[], yticks=[], xlabel="principal axis 1", ylabel="principal axis 2", title=title)
    ax.legend(frameon=False, fontsize=7)
    return ax
