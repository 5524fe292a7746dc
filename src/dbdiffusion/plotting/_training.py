"""Plots of training and of cells: take tables, return axes, compute nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbdiffusion.plotting._panel import BLUE, GREY, RED, axes_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def losses(history: dict[str, pd.DataFrame], ax: Axes | None = None, stage: str = "diffusion") -> Axes:
    """Training and validation loss of a stage.

    Parameters
    ----------
    history
        The model's ``history``.
    ax
        To draw on; None makes a new figure.
    stage
        ``"vae"`` (ELBO) or ``"diffusion"``.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from dbdiffusion import plotting
    >>> _, ax = plt.subplots()
    >>> plotting.losses(model.history, ax, "diffusion").get_title()
    'stage: diffusion'
    """
    ax = axes_of(ax)
    keys = {
        "vae": ("elbo_train", "elbo_validation"),
        "diffusion": ("diffusion_train_loss", "diffusion_validation_loss"),
    }[stage]
    for key, label, colour in zip(keys, ("training", "validation"), (BLUE, RED), strict=True):
        if key in history and len(history[key]):
            ax.plot(history[key].index.astype(int), history[key].iloc[:, 0].astype(float), color=colour, label=label)
    ax.set(xlabel="epoch", ylabel="negative ELBO" if stage == "vae" else "velocity error", title=f"stage: {stage}")
    ax.legend(frameon=False, fontsize=8)
    return ax


def cell_map(table: pd.DataFrame, ax: Axes | None = None, title: str = "") -> Axes:
    """Observed, generated and control cells on a map.

    Parameters
    ----------
    table
        Rows = cells; columns ``x, y, kind`` with kind in ``control, observed, generated``.
    ax, title
        To draw on, and its title; None makes a new figure.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from dbdiffusion import plotting
    >>> _, ax = plt.subplots()
    >>> import pandas as pd
    >>> table = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0], "kind": ["control", "generated"]})
    >>> len(plotting.cell_map(table, ax).collections)
    2
    """
    ax = axes_of(ax)
    for kind, colour, size in (("control", GREY, 3), ("observed", RED, 6), ("generated", BLUE, 6)):
        cells = table[table["kind"] == kind]
        if len(cells):
            ax.scatter(cells["x"], cells["y"], s=size, color=colour, alpha=0.6, linewidths=0, label=kind, rasterized=True)
    ax.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2", title=title)
    ax.legend(frameon=False, fontsize=7, markerscale=2)
    return ax
