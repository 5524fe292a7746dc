"""How many cells an effect rests on, by target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion.data import CellGroups
from dbdiffusion.model._screen import check_has_counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scvi.model import SCVI as _Base

    from dbdiffusion.model._screen import Screen
else:
    _Base = object


class TargetCellsMixin(_Base):
    """``target_cells``."""

    contexts: tuple[str, ...]
    is_diffusion_trained_: bool

    def target_cells(self, targets: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Cells of every target, and how many of them its effect rests on. Needs no training.

        Cells without counts say nothing, and cells in batches (of their context) without control cells have nothing to be
        compared with, so neither enter an effect.

        Parameters
        ----------
        targets
            Names; None means every registered perturbation but control.

        Returns
        -------
        DataFrame
            One row a target: ``target, n_cells, n_cells_used``; with contexts one a target and context, and a column
            ``context``. What was not measured has no cells. ``n_cells`` is missing for models saved by version 0.1.

        Raises
        ------
        ValueError
            If stage two is not trained and there are no counts.

        Examples
        --------
        >>> from dbdiffusion import DBDiffusion, simulate_screen
        >>> adata = simulate_screen(n_genes=40, n_perturbations=6, n_cells_per_perturbation=20, n_control_cells=40)
        >>> DBDiffusion.setup_anndata(adata)
        >>> table = DBDiffusion(adata, n_folds=2).target_cells()
        >>> bool((table["n_cells"] == table["n_cells_used"]).all())
        True
        """
        names = list(dict.fromkeys(self._canonical(self.perturbation_names if targets is None else targets)))
        tables = []
        for context, known in self._cells_by_context():
            keys = {self._name_rule().key(name): name for name in known.index}
            rows = known.reindex([keys.get(self._name_rule().key(name), name) for name in names]).set_axis(names)
            rows.loc[~rows["n_cells_used"].notna(), :] = 0
            table = rows.astype("Int64").rename_axis("target").reset_index()
            tables.append(table if context is None else table.assign(context=context))
        return pd.concat(tables, ignore_index=True)

    def _cells_by_context(self) -> Iterator[tuple[str | None, pd.DataFrame]]:
        """Contexts, or None, and the cells of what was measured there."""
        contexts = self.contexts or (None,)
        if self.is_diffusion_trained_:
            for context in contexts:
                yield context, _table_of(self._screen() if context is None else self.predictor(context).screen)
            return
        check_has_counts(self.adata)
        self.adata_manager.validate(whole=True)
        groups = CellGroups(self.adata_manager)
        for context in contexts:
            yield context, groups.table(context)


def _table_of(screen: Screen) -> pd.DataFrame:
    n_cells = np.full(len(screen.names), np.nan) if screen.n_cells is None else screen.n_cells
    return pd.DataFrame({"n_cells": n_cells, "n_cells_used": screen.observed.n_cells}, index=list(screen.names))
