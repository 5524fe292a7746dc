"""What all plots share: colours, an axes to draw on, and the rows of one target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
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


# Plot of where perturbations lie: takes a table, returns axes, computes nothing.


FONT = 6  # points


def perturbation_map(table: pd.DataFrame, ax: Axes | None = None, title: str = "", n_labels: int = 30) -> Axes:
    """Measured and unseen perturbations on a map. Those that lie together are predicted alike.

    Parameters
    ----------
    table
        Rows = perturbations; columns ``target, x, y`` and ``status`` with ``control``, ``measured`` or ``unseen``.
    ax, title
        To draw on, and its title; None makes a new figure.
    n_labels
        Unseen ones are named up to this number. Measured ones are named if there are no more of them, where their names cover
        no other.

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
    ax.autoscale_view()
    named.reverse()  # unseen ones first
    room = _in_points(ax, np.transpose([ax.get_xlim(), ax.get_ylim()])).ravel()
    spots = _spots(
        [name for name, *_ in named], _in_points(ax, [one[1:3] for one in named]), _in_points(ax, table[["x", "y"]]), room
    )
    for (name, x, y, colour), spot in zip(named, spots, strict=True):
        if spot is None and colour != RED:
            continue
        spot = spot or (3.0, 2.0)
        ax.annotate(name, (x, y), spot, textcoords="offset points", fontsize=FONT, color=colour, parse_math=False)
    ax.set(xticks=[], yticks=[], xlabel="principal axis 1", ylabel="principal axis 2", title=title)
    ax.legend(frameon=False, fontsize=7)
    return ax


def _in_points(ax: Axes, places: Any) -> np.ndarray:
    """Places (n, 2) in the unit of fonts."""
    return ax.transData.transform(np.asarray(places, dtype=float).reshape(-1, 2)) * 72 / ax.figure.dpi


def _spots(names: list[str], points: np.ndarray, dots: np.ndarray, room: np.ndarray) -> list[tuple[float, float] | None]:
    """Where each label begins, from its point: right, left, above or below, or further off; None where it would cover another.

    Parameters
    ----------
    names
        Texts.
    points
        (n, 2) of the texts, in points of the font.
    dots
        (m, 2) that would better not be covered.
    room
        Left, bottom, right and top of where labels may be.

    Examples
    --------
    >>> _spots(["A", "B"], np.array([[0.0, 0.0], [1.0, 0.0]]), np.zeros((0, 2)), np.array([-50, -50, 50, 50]))
    [(3.0, 2.0), (-6.6, 2.0)]
    """
    boxes: list[np.ndarray] = []  # left, bottom, right, top
    spots = []
    for name, (x, y) in zip(names, points, strict=True):
        width = 0.6 * FONT * len(name)
        tried = []  # how much of other labels or of the frame is covered, how many dots, where
        for up in (2.0, -2.0 - FONT, 2.0 + FONT, -2.0 - 2 * FONT, 2.0 + 2 * FONT):
            for right in (3.0, -3.0 - width, -width / 2):
                box = np.array([x + right, y + up, x + right + width, y + up + FONT])
                covered = sum(_overlap(box, other) for other in boxes) + np.prod(box[2:] - box[:2]) - _overlap(box, room)
                dotted = int(((dots > box[:2]) & (dots < box[2:])).all(axis=1).sum())
                tried.append((round(covered, 3), dotted, (right, up), box))
        covered, _, spot, box = min(tried, key=lambda one: one[:2])
        spots.append(spot if covered == 0 else None)
        boxes += [box] if covered == 0 else []
    return spots


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Area that two boxes share."""
    return float(np.prod(np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0)))
