"""Scvi's answers for MuData: they read the names of genes and of groups from one AnnData, here that of the RNA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anndata import AnnData
from mudata import MuData

from dbdiffusion._compat import DATA_UUID
from dbdiffusion._keys import REGISTRY
from dbdiffusion.data import PerturbationField, ScreenManager
from dbdiffusion.model._fields import COLUMN_ARGUMENTS, anndata_fields

if TYPE_CHECKING:
    import pandas as pd
    from scvi.model import SCVI as _Base
else:
    _Base = object


class RnaMixin(_Base):
    """The RNA of a MuData."""

    _rna_of_mudata: dict[str, tuple[MuData, AnnData]]

    def _validate_anndata(self, adata: AnnData | MuData | None = None, copy_if_view: bool = True) -> AnnData:
        if adata is not None and any(adata is rna for _, rna in self._rna_of_mudata.values()):
            return adata  # scvi-tools asks again with what it was given
        data = super()._validate_anndata(adata, copy_if_view)
        return self._rna(data) if isinstance(data, MuData) else data

    def differential_abundance(self, adata: AnnData | MuData | None = None, *args: Any, **kwargs: Any) -> None:
        """As scvi-tools does it, into ``obsm["da_log_probs"]`` of the AnnData or MuData.

        Examples
        --------
        >>> import copy
        >>> copied = copy.deepcopy(model)
        >>> copied.differential_abundance(sample_key="batch")
        >>> copied.adata.obsm["da_log_probs"].shape == (adata.n_obs, 2)
        True
        """
        super().differential_abundance(adata, *args, **kwargs)
        data = self.adata if adata is None else adata
        if isinstance(data, MuData):
            data.obsm["da_log_probs"] = self._rna(data).obsm["da_log_probs"]

    def _name_setup_method(self) -> None:
        """Scvi-tools forgets it when a model is given another AnnData or MuData, and `load` then takes the wrong one."""
        method = "setup_mudata" if "modalities" in self.registry_["setup_args"] else "setup_anndata"
        self.registry_.setdefault("setup_method_name", method)

    def _rna(self, mdata: MuData) -> AnnData:
        """The RNA, registered for this model with the codes of the MuData; made once, and again if its cells changed."""
        key = mdata.uns[DATA_UUID]
        source, rna = self._rna_of_mudata.get(key, (None, None))
        if source is not mdata or not rna.obs_names.equals(mdata.obs_names) or self.get_anndata_manager(rna) is None:
            rna = self._register_rna(mdata)
            self._rna_of_mudata = {key: (mdata, rna)}
        return rna

    def _register_rna(self, mdata: MuData) -> AnnData:
        arguments = self.registry_["setup_args"]
        located = arguments["modalities"] or {"rna_layer": "rna"}
        layer = arguments["rna_layer"]
        rna = mdata.mod[located["rna_layer"]]
        counts = rna.X if layer is None else rna.layers[layer]
        copied = AnnData(counts, obs=self._obs_of(mdata, arguments, located), var=rna.var[[]])
        kept = (*COLUMN_ARGUMENTS, "perturbation_key", "control", "combination_sep")
        setup_args = {"layer": None, "embedding_key": None, **{name: arguments.get(name) for name in kept}}
        manager = ScreenManager(
            fields=anndata_fields(**setup_args),
            setup_method_args={
                "model_name": type(self).__name__,
                "setup_method_name": "setup_anndata",
                "setup_args": setup_args,
            },
        )
        manager.register_fields(copied, source_registry=self.registry_)
        self._register_manager_for_instance(manager)
        return copied

    def _obs_of(self, mdata: MuData, arguments: dict[str, Any], located: dict[str, str]) -> pd.DataFrame:
        obs = mdata.obs[[name for name in mdata.obs if not name.startswith("_scvi_")]].copy()
        for argument in COLUMN_ARGUMENTS:
            columns = arguments.get(argument) or []  # `context_key` came later than some saved models
            frame = mdata.mod[located[argument]].obs if argument in located else mdata.obs
            for column in [columns] if isinstance(columns, str) else columns:
                obs[column] = frame[column].to_numpy()
        manager = self.get_anndata_manager(mdata, required=True)
        codes = manager.get_from_registry(REGISTRY.PERTURBATION).ravel().astype(int)
        mapping = manager.get_state_registry(REGISTRY.PERTURBATION)[PerturbationField.CATEGORICAL_MAPPING_KEY]
        obs[arguments["perturbation_key"]] = mapping[codes]
        return obs
