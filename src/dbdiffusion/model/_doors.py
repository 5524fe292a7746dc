"""Where cells come to a model: its own, others it is asked about, and those it was given back after loading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from mudata import MuData

from dbdiffusion.data import check_genes, check_kind, contexts_of, undone_if_it_fails
from dbdiffusion.model._screen import check_has_cells, genes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData
    from scvi.model import SCVI as _Base

    from dbdiffusion.data import ScreenManager
else:
    _Base = object


class DoorMixin(_Base):
    """Checks of cells, by the manager that registered them."""

    def get_anndata_manager(self, adata: AnnData | MuData, required: bool = False) -> ScreenManager | None:
        """As in scvi-tools, but the model's own cells are its own, whatever set them up since.

        Examples
        --------
        >>> model.get_anndata_manager(adata) is model.adata_manager
        True
        """
        own = self.adata_manager
        if adata is not None and own is not None and own.adata is adata:
            return own
        return super().get_anndata_manager(adata, required)

    def _validate_anndata(self, adata: AnnData | MuData | None = None, copy_if_view: bool = True) -> AnnData | MuData:
        adata = self.adata if adata is None else adata
        check_has_cells(adata)
        check_kind(adata, is_mudata="modalities" in self.registry_["setup_args"])
        if not adata.n_obs:
            msg = "There must be at least one cell, got none. Was everything filtered out?"
            raise ValueError(msg)
        with undone_if_it_fails(adata):
            return super()._validate_anndata(adata, copy_if_view)

    def _manager_of(self, adata: AnnData | MuData | None, contexts: Sequence[str] = ()) -> ScreenManager:
        """Of the model's own cells, or of others that were set up as the model's were and have some contexts."""
        if adata is None:
            check_has_cells(self.adata)
            return self.adata_manager
        check_kind(adata, is_mudata=isinstance(adata, MuData))
        manager = self._get_most_recent_anndata_manager(adata, required=True)
        check_genes(genes_of(manager.registry), genes_of(self.registry_))
        absent = sorted(set(contexts).difference(contexts_of(manager.registry)))
        if absent:
            msg = f"The cells must be set up with a `context_key` and the model's contexts, but {absent[:3]!r} are lacking."
            raise ValueError(msg)
        return manager

    def _fit_split(self) -> None:
        """Make the split of cells one of the cells that are there, with the shares it had."""
        n = self.adata.n_obs
        split = (self.train_indices, self.validation_indices, self.test_indices)
        if split[0] is None:  # a checkpoint of stage one knows no split
            self.train_indices = np.arange(n)
            self.validation_indices = self.test_indices = np.empty(0, dtype=int)
            return
        indices = [np.empty(0, dtype=int) if part is None else np.asarray(part, dtype=int) for part in split]
        n_before = len(np.concatenate(indices))
        of_all = np.array_equal(np.sort(np.concatenate(indices)), np.arange(n_before))
        if max(part.max(initial=-1) for part in indices) < n and not (of_all and n_before < n):
            return
        order = np.random.default_rng(0).permutation(n)
        ends = np.cumsum([round(n * len(part) / n_before) for part in indices[1:]])
        self.validation_indices, self.test_indices, self.train_indices = np.split(order, ends)


def used_cells(manager: Any, indices: np.ndarray) -> np.ndarray:
    """Those of some cells that have counts; all of them where the counts are gone, or the depth is known otherwise."""
    return indices if manager.takes_part is None else indices[manager.takes_part[indices]]
