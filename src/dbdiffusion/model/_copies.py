"""Copies of a model, shallow, deep or by pickle: they answer as the original does and share no book-keeping with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from mudata import MuData

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData
    from scvi.data import AnnDataManager
    from scvi.model import SCVI as _Base
else:
    _Base = object

LEFT_BEHIND = {"_predictors": dict, "_rna_of_mudata": dict}  # found anew when it is asked for
PARTS = ("obs", "var", "axis")
MAPPINGS = ("obsm", "varm", "obsp", "varp", "obsmap", "varmap")


class CopyingMixin(_Base):
    """What :mod:`copy` and :mod:`pickle` ask for."""

    _adata: AnnData | MuData | None
    _adata_manager: AnnDataManager | None

    def __getstate__(self) -> dict[str, Any]:
        """All but caches and the trainer, which a loaded model has not either."""
        state = {name: value for name, value in self.__dict__.items() if name not in LEFT_BEHIND and name != "trainer"}
        if isinstance(self._adata, MuData):
            state |= {"_adata": _PackedMuData(self._adata, self._adata_manager), "_adata_manager": None}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The state under an id of its own, by which scvi-tools keeps a model's AnnData."""
        self.__dict__.update(state, id=str(uuid4()), **{name: make() for name, make in LEFT_BEHIND.items()})
        if isinstance(self._adata, _PackedMuData):
            self._unpack(self._adata)
        if self._adata_manager is not None:
            self._register_manager_for_instance(self._adata_manager)

    def _unpack(self, packed: _PackedMuData) -> None:
        """The MuData of a shallow copy as it is, any other registered as when a model is loaded."""
        self._adata, self._adata_manager = packed.mdata, packed.manager
        if self._adata_manager is None:
            type(self).setup_mudata(packed.mdata, source_registry=self.registry_, **self.registry_["setup_args"])
            self._adata_manager = self._get_most_recent_anndata_manager(packed.mdata, required=True)


class _PackedMuData:
    """A MuData that can be pickled: its own manager of files cannot, nor the fields that scvi-tools makes of it."""

    def __init__(self, mdata: MuData, manager: AnnDataManager | None = None) -> None:
        self.mdata, self.manager = mdata, manager

    def __reduce__(self) -> tuple[Callable[[dict[str, Any]], _PackedMuData], tuple[dict[str, Any]]]:
        parts = {name: getattr(self.mdata, name) for name in PARTS}
        mappings = {name: dict(getattr(self.mdata, name)) for name in MAPPINGS}
        uns = {name: value for name, value in self.mdata.uns.items() if not name.startswith("_scvi")}  # it is another's id
        return _unpacked, ({"data": dict(self.mdata.mod), **parts, **mappings, "uns": uns},)


def _unpacked(parts: dict[str, Any]) -> _PackedMuData:
    return _PackedMuData(MuData(**parts))
