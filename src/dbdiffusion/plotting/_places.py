"""Plot of where perturbations lie: takes a table, returns axes, computes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbdiffusion.plotting._panel import BLUE, GREY, RED, axes_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def perturbation_map(table: pd.DataFrame, ax: Axes | None = None, title: str = "", n_labels: int = 30) -> Axes:
    """Measured and unseen perturbations on a map. Those that lie together are predicted alike.

    Parameters
    ----------
    table
        Rows = perturbations; columns ``target, x, y`` and ``status`` with ``control``, ``measured`` or ``unseen``.
    ax, title
        To draw on, and its title; None makes a new figure.
    n_labels
        Unseen ones are named up to this number, and measured ones if there are no more of them.

    Examples
    --------
    >>> import pandas as pd
    >>> from dbdiffusion import plotting
    >>> axes = pd.DataFrame(model.perturbation_embeddings().iloc[:, :2].to_numpy(), columns=["x", "y"])
    >>> table = axes.assign(target=model.perturbation_embeddings().index, status="measured")
    >>> len(plotting.perturbation_map(table).texts) == len(table)
    True
    """
    ax = axes_of(ax)
    for status, colour, mark, size in (("measured", BLUE, "o", 16), ("control", GREY, "P", 40), ("unseen", RED, "D", 22)):
        rows = table[table["status"] == status]
        if rows.empty:
            continue
        ax.scatter(rows["x"], rows["y"], s=size, color=colour, marker=mark, alpha=0.8, linewidths=0, label=status)
        named = rows if status == "unseen" else rows[: 0 if len(rows) > n_labels or status == "control" else None]
        for name, x, y in named[["target", "x", "y"]].head(n_labels).itertuples(index=False, name=None):
            ax.annotate(str(name), (x, y), (3, 3), textcoords="offset points", fontsize=6, color=colour, parse_math=False)
    ax.set(xticks=[], yticks=[], xlabel="principal axis 1", ylabel="principal axis 2", title=title)
    ax.legend(frameon=False, fontsize=7)
    return ax
