"""Plot of where perturbations lie: takes a table, returns axes, computes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbdiffusion.plotting._panel import BLUE, GREY, RED, axes_of, name_points

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
