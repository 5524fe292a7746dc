"""Splits over perturbations, never over cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.data._labels import labels_in
from dbdiffusion.embedding import NameRule, meant

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


def assign_folds(parts: Sequence[tuple[str, ...]], n_folds: int, seed: int = 0) -> np.ndarray:
    """Folds (P,) of perturbations, as equal in size as can be; a combination avoids the folds of its parts.

    A combination is left out to ask what its *measured* parts say, so they should not be left out with it.

    Parameters
    ----------
    parts
        Of every perturbation; singles have one.
    n_folds
        Folds, at most as many as perturbations.
    seed
        Of the permutation.

    Examples
    --------
    >>> assign_folds([("A",), ("B",), ("A", "B")], n_folds=3).tolist() == assign_folds([("A",), ("B",), ("A", "B")], 3).tolist()
    True
    """
    n_folds = min(n_folds, len(parts))
    order = np.random.default_rng(seed).permutation(len(parts))
    order = order[np.argsort([len(parts[i]) > 1 for i in order], kind="stable")]
    folds = np.full(len(parts), -1)
    sizes = np.zeros(n_folds, dtype=int)
    fold_of_single: dict[str, int] = {}
    for i in order:
        avoided = {fold_of_single[part] for part in parts[i] if part in fold_of_single} if len(parts[i]) > 1 else set()
        candidates = [fold for fold in range(n_folds) if fold not in avoided] or list(range(n_folds))
        fold = min(candidates, key=lambda f: sizes[f])
        folds[i], sizes[fold] = fold, sizes[fold] + 1
        if len(parts[i]) == 1:
            fold_of_single[parts[i][0]] = fold
    return folds
