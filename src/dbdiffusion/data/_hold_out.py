"""Splits over perturbations, never over cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def hold_out(
    adata: AnnData, perturbations: str | Sequence[str], perturbation_key: str = "perturbation"
) -> tuple[AnnData, AnnData]:
    """Split a screen into the cells to train on and the cells of held-out perturbations.

    Parameters
    ----------
    adata
        A screen; it is not changed.
    perturbations
        Names to hold out.
    perturbation_key
        Column of ``obs``.

    Returns
    -------
    tuple of AnnData
        Copies: the rest, and the held-out cells.

    Raises
    ------
    KeyError
        If a name has no cells; close names are suggested.

    Examples
    --------
    >>> from dbdiffusion.data import hold_out, simulate_screen
    >>> screen = simulate_screen(n_genes=30, n_perturbations=4, n_cells_per_perturbation=9, n_control_cells=9)
    >>> name = screen.obs["perturbation"].iloc[-1]
    >>> rest, held_out = hold_out(screen, [name])
    >>> name in set(rest.obs["perturbation"]), set(held_out.obs["perturbation"]) == {name}
    (False, True)
    """
    perturbations = [perturbations] if isinstance(perturbations, str) else list(perturbations)
    column = adata.obs[perturbation_key].astype(str)
    unknown = [name for name in perturbations if name not in set(column)]
    if unknown:
        import difflib

        close = difflib.get_close_matches(unknown[0], sorted(set(column)), n=3)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
        msg = f"{unknown[0]!r} has no cells in adata.obs[{perturbation_key!r}], so it cannot be held out.{hint}"
        raise KeyError(msg)
    out = column.isin(list(perturbations)).to_numpy()
    return adata[~out].copy(), adata[out].copy()
