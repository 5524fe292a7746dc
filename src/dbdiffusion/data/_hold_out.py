"""Splits over perturbations, never over cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbdiffusion.data._labels import check_texts, labels_in
from dbdiffusion.data._manager import check_kind
from dbdiffusion.screen import NameRule, listed_names, meant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


def hold_out(
    adata: AnnData,
    perturbations: str | Sequence[str],
    perturbation_key: str = "perturbation",
    control: str = "control",
    combination_sep: str = "+",
) -> tuple[AnnData, AnnData]:
    """Split a screen into the cells to train on and the cells of held-out perturbations.

    Parameters
    ----------
    adata
        A screen; it is not changed.
    perturbations
        Names to hold out. All cells of a perturbation go, however its name is written: ``"A+B"`` and ``"B+A"``, ``"A"`` and
        ``"A+ctrl"``.
    perturbation_key, control, combination_sep
        As in :meth:`DBDiffusion.setup_anndata`.

    Returns
    -------
    tuple of AnnData
        Copies: the rest, and the held-out cells.

    Raises
    ------
    KeyError
        If a name has no cells; close names are suggested.
    TypeError, ValueError
        If the screen is none, or what should be names is none.

    Examples
    --------
    >>> from dbdiffusion.data import hold_out, simulate_screen
    >>> screen = simulate_screen(n_genes=30, n_perturbations=4, n_cells_per_perturbation=9, n_control_cells=9)
    >>> name = screen.obs["perturbation"].iloc[-1]
    >>> rest, held_out = hold_out(screen, [name])
    >>> name in set(rest.obs["perturbation"]), set(held_out.obs["perturbation"]) == {name}
    (False, True)
    """
    check_kind(adata, is_mudata=None)
    check_texts({}, perturbation_key=perturbation_key, control=control, combination_sep=combination_sep)
    is_empty = isinstance(perturbations, list | tuple | set) and not perturbations
    perturbations = [] if is_empty else listed_names(perturbations, "perturbations")
    rule = NameRule(control, combination_sep, adata.var_names)
    labels = labels_in(adata.obs, perturbation_key)
    keys = {label: rule.key(label) for label in labels.unique()}
    unknown = [name for name in perturbations if rule.key(name) not in set(keys.values())]
    if unknown:
        hint = meant(unknown[0], sorted(keys))
        msg = f"{unknown[0]!r} has no cells in adata.obs[{perturbation_key!r}], so it cannot be held out.{hint}"
        raise KeyError(msg)
    wanted = {rule.key(name) for name in perturbations}
    out = labels.isin([label for label, key in keys.items() if key in wanted]).to_numpy()
    return adata[~out].copy(), adata[out].copy()
