"""The manager of a registered screen: it checks the cells at every use, and keeps to its own set-up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager

from dbdiffusion._compat import MANAGER_UUID
from dbdiffusion.data._doors import OWN, check_door, check_genes, check_kind, undone_if_it_fails
from dbdiffusion.data._mudata import check_modalities
from dbdiffusion.data._validate import check_counts

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData
    from scvi.data.fields import BaseAnnDataField

N_BLOCKS, BLOCK = 16, 256  # of cells that are looked at where a model is only asked, not trained
USERS = (REGISTRY_KEYS.SIZE_FACTOR_KEY, REGISTRY_KEYS.OBSERVED_LIB_SIZE)  # columns that are read where the user keeps them
AGAIN = "Set the cells up again and build a model of them, or put back what was there."


class ScreenManager(AnnDataManager):
    """Registers a screen, and answers for it as long as a model lives.

    scvi-tools writes codes into the AnnData, and reads the AnnData anew at every use: another set-up overwrites the codes, and
    whatever is done to the AnnData in place reaches the model. This manager remembers what it registered. Codes that another
    set-up wrote over are put back; cells that were dropped in place are followed; anything else that changed is refused.

    Examples
    --------
    >>> type(model.adata_manager).__name__
    'ScreenManager'
    >>> bool((model.adata_manager.totals == adata.X.sum(axis=1).A1).all())
    True
    """

    _kept: dict[tuple[str | None, str, str], Any]
    _codes: set[tuple[str | None, str, str]]
    _totals: np.ndarray | None
    _cells: pd.Index

    def register_fields(self, adata: AnnData | MuData, source_registry: dict | None = None, **transfer_kwargs: Any) -> None:
        """Register, all or nothing.

        Parameters
        ----------
        adata
            The cells.
        source_registry
            Of the model that they come to.
        **transfer_kwargs
            Of scvi-tools.

        Raises
        ------
        TypeError
            If it is no AnnData, or no MuData where that is registered.
        ValueError
            If genes or counts are not as they must be, or a category is unknown.
        """
        check_kind(adata, is_mudata=self._counts_field.mod_key is not None)
        known = None
        if source_registry is not None:
            fields = source_registry["field_registries"]
            known = fields[REGISTRY_KEYS.X_KEY]["state_registry"].get("column_names")
        with undone_if_it_fails(adata):
            self._totals = check_door(self._rna_of(adata), self._counts_field.attr_key, known)
            super().register_fields(adata, source_registry, **transfer_kwargs)
            if source_registry is not None and not transfer_kwargs.get("extend_categories"):
                _check_categories(self.registry["field_registries"], source_registry["field_registries"])
        self._remember()

    def register_new_fields(self, fields: list[BaseAnnDataField]) -> None:
        """Register further fields, as minification does."""
        super().register_new_fields(fields)
        self._remember()

    def validate(self, *, whole: bool = False) -> None:
        """See that the AnnData is what was registered; put back codes that another set-up wrote over.

        Parameters
        ----------
        whole
            Whether to look at the counts of all cells, as before training, and not of 4,096 at most.

        Raises
        ------
        ValueError
            If genes, counts or a column that the model reads were changed in place, or there are cells of which the set-up knew
            nothing.
        """
        self._assert_anndata_registered()
        names = self.get_state_registry(REGISTRY_KEYS.X_KEY)["column_names"]
        check_genes(self._rna_of(self.adata).var_names, names, f"They were changed in place after the set-up. {AGAIN}")
        if self._counts_field.mod_key is not None:
            check_modalities(self.adata, {place[0] for place in self._kept if place[0] is not None})
        self._follow_cells()
        for place, value in self._kept.items():
            self._put_back(place, value)
        self._check_counts(whole=whole)
        self.adata.uns[MANAGER_UUID] = self.id

    @property
    def totals(self) -> np.ndarray | None:
        """Total counts (N,) of the cells, as far as there are counts."""
        return self._totals

    @property
    def rna(self) -> AnnData:
        """What holds the counts."""
        return self._rna_of(self.adata)

    @property
    def takes_part(self) -> np.ndarray | None:
        """Which cells (N,) say something of expression: those with counts, or all where size factors say how deep they are."""
        if self._totals is None or REGISTRY_KEYS.SIZE_FACTOR_KEY in self.data_registry:
            return None
        return self._totals > 0

    @property
    def _counts_field(self) -> BaseAnnDataField:
        return next(field for field in self.fields if field.registry_key == REGISTRY_KEYS.X_KEY)

    def _rna_of(self, data: AnnData | MuData) -> AnnData:
        modality = self._counts_field.mod_key
        if modality is None:
            return data
        check_modalities(data, {modality})
        return data.mod[modality]

    def _remember(self) -> None:
        """Keep the registered values of every cell; counts by their totals, they are too many."""
        self._cells = self.adata.obs_names
        self._kept, self._codes = {}, set()
        for key, location in self.data_registry.items():
            place = (location.get("mod_key"), location["attr_name"], location["attr_key"])
            is_own = str(place[2]).startswith(f"{OWN}_{key}") and key not in USERS
            if place[1] == "obs" or (place[1] == "obsm" and is_own):
                self._kept[place] = _mapping(self.adata, place)[place[2]].copy()
                self._codes |= {place} if is_own else set()

    def _follow_cells(self) -> None:
        """Where cells were dropped or sorted in place, take the remembered values of those that are there."""
        now = self.adata.obs_names
        if now.equals(self._cells):
            return
        if len(now) == len(self._cells) and all(self._holds(place) for place in self._codes if place[1] == "obs"):
            self._cells = now  # only their names changed
            return
        rows = self._cells.get_indexer(now) if self._cells.is_unique else np.array([-1])
        if (rows < 0).any():
            msg = (
                f"The registered cells were changed in place: there are {len(now)}, {int((rows < 0).sum())} of them or more "
                f"unknown to the set-up of {len(self._cells)}. {AGAIN}"
            )
            raise ValueError(msg)
        self._cells = now
        self._kept = {place: value.iloc[rows] for place, value in self._kept.items()}
        self._totals = None if self._totals is None else self._totals[rows]

    def _holds(self, place: tuple[str | None, str, str]) -> bool:
        mapping, key = _mapping(self.adata, place), place[2]
        return key in mapping and np.array_equal(np.asarray(mapping[key]), np.asarray(self._kept[place]))

    def _put_back(self, place: tuple[str | None, str, str], value: Any) -> None:
        if self._holds(place):
            return
        mapping, key = _mapping(self.adata, place), place[2]
        if place not in self._codes:
            msg = f"obs[{key!r}] was changed in place after the set-up, but a model reads it. {AGAIN}"
            raise ValueError(msg)
        mapping[key] = value.set_axis(self.adata.obs_names if place[0] is None else self.adata.mod[place[0]].obs_names)

    def _check_counts(self, *, whole: bool) -> None:
        if self._totals is None:
            return
        n = len(self._totals)
        blocks = None
        if not whole and n > N_BLOCKS * BLOCK:
            blocks = [slice(start, start + BLOCK) for start in np.linspace(0, n - BLOCK, N_BLOCKS).astype(int)]
        totals = check_counts(self._rna_of(self.adata), self._counts_field.attr_key, blocks)
        rows = np.concatenate([np.arange(n)[block] for block in blocks or [slice(None)]])
        changed = np.flatnonzero(totals != self._totals[rows])
        if len(changed):
            first = rows[changed[0]]
            msg = (
                f"The counts were changed in place after the set-up: cell {self._cells[first]!r} has {totals[changed[0]]:g} "
                f"and had {self._totals[first]:g}. {AGAIN}"
            )
            raise ValueError(msg)


def _mapping(data: AnnData | MuData, place: tuple[str | None, str, str]) -> Any:
    return getattr(data if place[0] is None else data.mod[place[0]], place[1])


def _check_categories(now: dict, before: dict) -> None:
    """Scvi-tools lets a new category pass that is false as a number, as 0 is."""
    for key, field in now.items():
        known = before.get(key, {}).get("state_registry", {}).get("categorical_mapping")
        found = field["state_registry"].get("categorical_mapping")
        if known is not None and found is not None and len(found) > len(known):
            msg = (
                f"Category {found[len(known)]} of {field['state_registry']['original_key']!r} is unknown to the model, which "
                f"knows {[str(name) for name in known[:10]]}. New ones come in by `DBDiffusion.load_query_data`."
            )
            raise ValueError(msg)
