"""Registration of a screen: ``setup_anndata`` and ``setup_mudata``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data.fields import (
    CategoricalJointObsField,
    CategoricalObsField,
    LayerField,
    MuDataWrapper,
    NumericalJointObsField,
    NumericalObsField,
)

from dbdiffusion._compat import DATA_UUID, assign_uuid, minified_type
from dbdiffusion._keys import REGISTRY
from dbdiffusion.data import (
    CellGroups,
    GuideRule,
    MuDataPerturbationField,
    MuDataUserVectorsField,
    PerturbationField,
    ScreenManager,
    UserVectorsField,
    check_columns,
    check_contexts,
    check_kind,
    check_modalities,
    check_no_view,
    check_texts,
    labels_in,
    perturbations_in,
    say_other_totals,
    say_suspicions,
    undone_if_it_fails,
)
from dbdiffusion.screen import NameRule, meant

if TYPE_CHECKING:
    import pandas as pd
    from scvi.model import SCVI as _Base
else:
    _Base = object


# Registry fields of a screen, by the arguments of the set-up.


_COVARIATES: tuple[tuple[str, str, Any, dict[str, bool]], ...] = (
    ("batch_key", REGISTRY_KEYS.BATCH_KEY, CategoricalObsField, {}),
    ("labels_key", REGISTRY_KEYS.LABELS_KEY, CategoricalObsField, {}),
    ("size_factor_key", REGISTRY_KEYS.SIZE_FACTOR_KEY, NumericalObsField, {"required": False}),
    ("categorical_covariate_keys", REGISTRY_KEYS.CAT_COVS_KEY, CategoricalJointObsField, {}),
    ("continuous_covariate_keys", REGISTRY_KEYS.CONT_COVS_KEY, NumericalJointObsField, {}),
)
COLUMN_ARGUMENTS = (*(name for name, *_ in _COVARIATES), "context_key")


def anndata_fields(
    layer: str | None,
    *,
    perturbation_key: str,
    control: str,
    combination_sep: str,
    embedding_key: str | None,
    context_key: str | None = None,
    **covariates: Any,
) -> list[Any]:
    """Fields of an AnnData, by the arguments of ``setup_anndata``."""
    context = [] if context_key is None else [CategoricalObsField(REGISTRY.CONTEXT, context_key)]
    fields = [
        *context,
        LayerField(REGISTRY_KEYS.X_KEY, layer, is_count_data=True),
        *(field(key, covariates[name], **options) for name, key, field, options in _COVARIATES),
        PerturbationField(perturbation_key, control, combination_sep),
        UserVectorsField(embedding_key, perturbation_key, control, combination_sep),
    ]
    return _beside(fields, [perturbation_key, context_key, *covariates.values()])


def mudata_perturbations(located: dict[str, str | None], arguments: dict[str, Any]) -> MuDataPerturbationField:
    """The field of the perturbations: of a column, or called from guide counts."""
    guides, rule = located["guide_layer"], None
    if guides is not None:
        rule = GuideRule(
            guides, *(arguments[name] for name in ("guide_target_key", "guide_layer", "min_guide_counts", "min_guide_share"))
        )
    key, control, separator = (arguments[name] for name in ("perturbation_key", "control", "combination_sep"))
    return MuDataPerturbationField(key, control, separator, located["perturbation_key"], rule, str(located["rna_layer"]))


def mudata_fields(
    located: dict[str, str | None], perturbations: MuDataPerturbationField, arguments: dict[str, Any]
) -> list[Any]:
    """Fields of a MuData, by the arguments of ``setup_mudata`` and the modalities that hold them."""
    rna = located["rna_layer"]
    columns = [*_COVARIATES]
    if arguments["context_key"] is not None:
        columns.insert(0, ("context_key", REGISTRY.CONTEXT, CategoricalObsField, {}))
    fields = [
        MuDataWrapper(LayerField)(
            REGISTRY_KEYS.X_KEY, arguments["rna_layer"], mod_key=rna, mod_required=True, is_count_data=True
        ),
        *(
            MuDataWrapper(field)(key, arguments[name], mod_key=located[name], **options)
            for name, key, field, options in columns
        ),
        perturbations,
        MuDataUserVectorsField(arguments["embedding_key"], perturbations, str(rna)),
    ]
    return _beside(fields, [arguments[name] for name in ("perturbation_key", *COLUMN_ARGUMENTS)])


def _beside(fields: list[Any], named: list[Any]) -> list[Any]:
    """The fields, their codes written beside the columns that the user named, whatever those are called."""
    taken = {name for one in named for name in ([one] if isinstance(one, str) else one or [])}
    for field in fields:
        inner = getattr(field, "adata_field", field)
        while isinstance(inner, CategoricalObsField) and inner._attr_key in taken:
            inner._attr_key += "_"
    return fields


# Scvi's answers for MuData: they read the names of genes and of groups from one AnnData, here that of the RNA.


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


class SetupMixin(_Base):
    """Registration."""

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        perturbation_key: str = "perturbation",
        control: str = "control",
        layer: str | None = None,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        embedding_key: str | None = None,
        combination_sep: str = "+",
        context_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register a screen.

        With ``adata`` alone it works on any data set in the scPerturb convention: raw counts in X,
        ``obs["perturbation"]``, ``"control"``.

        Parameters
        ----------
        adata
            Cells by genes, raw counts; dense, CSR or CSC, in memory or backed. Codes are added to ``obs`` under
            ``_scvi_*``, as every scvi-tools model does; nothing else changes.
        perturbation_key
            Column of ``obs`` that names the perturbation of every cell.
        control
            Category of the unperturbed cells.
        layer
            Layer with the counts, if they are not in X.
        batch_key
            Column of experimental batches. Effects are contrasts inside batches.
        labels_key, categorical_covariate_keys, continuous_covariate_keys
            As in :meth:`scvi.model.SCVI.setup_anndata`.
        size_factor_key
            Column of ``obs`` with total counts of the whole transcriptome (when X holds only some genes) or with relative
            size factors. It takes the place of the total counts of X in the decoder and in CP10K.
        embedding_key
            Key of ``uns`` with your own vectors of perturbations or genes: a DataFrame, index = names.
        combination_sep
            Separates the parts of a combination, ``"A+B"``; their order does not matter.
        context_key
            Column of cell lines, times or stimulations in which perturbations act differently. Effects are then contrasted
            and predicted inside each context, and the diffusion is told the context; every context needs control cells.
        **kwargs
            Used by scvi-tools when it loads a model.

        Raises
        ------
        TypeError
            If an argument that names something is no text.
        KeyError
            If a column, layer or table is missing.
        ValueError
            If counts, control, or the table are not as they must be; the message says how to mend it.

        Examples
        --------
        >>> from dbdiffusion import DBDiffusion, simulate_screen
        >>> adata = simulate_screen(n_genes=40, n_perturbations=6, n_cells_per_perturbation=20, n_control_cells=40)
        >>> DBDiffusion.setup_anndata(adata, batch_key="batch")
        >>> len(DBDiffusion(adata, n_latent=5, n_folds=2).perturbation_names)
        6
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        arguments = setup_method_args["setup_args"]
        check_kind(adata)
        _check_arguments(arguments, kwargs)
        if _is_news(kwargs):
            check_no_view(adata)
        rule = NameRule(control, combination_sep, adata.var_names)
        perturbations = perturbations_in(adata.obs, perturbation_key, rule)
        for name in COLUMN_ARGUMENTS:
            check_columns(adata.obs, name, arguments[name])
        if context_key is not None:
            check_contexts(adata.obs[context_key], perturbations, context_key, control)
        fields = anndata_fields(**arguments)
        if minified_type(adata) is not None:
            fields += cls._get_fields_for_adata_minification(minified_type(adata))
        if _is_news(kwargs):
            say_suspicions(labels_in(adata.obs, perturbation_key), rule, adata.var, _names_in(adata.uns, embedding_key))
        cls._register(adata, ScreenManager(fields=fields, setup_method_args=setup_method_args), kwargs)

    @classmethod
    def setup_mudata(
        cls,
        mdata: MuData,
        rna_layer: str | None = None,
        perturbation_key: str = "perturbation",
        control: str = "control",
        guide_layer: str | None = None,
        guide_target_key: str | None = "target",
        min_guide_counts: int = 3,
        min_guide_share: float = 0.1,
        batch_key: str | None = None,
        labels_key: str | None = None,
        size_factor_key: str | None = None,
        categorical_covariate_keys: list[str] | None = None,
        continuous_covariate_keys: list[str] | None = None,
        embedding_key: str | None = None,
        combination_sep: str = "+",
        modalities: dict[str, str] | None = None,
        context_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Register a screen with RNA and guides in one MuData.

        The perturbation of a cell is either in a column of ``obs``, or made of the counts of guides by the rule of
        :func:`dbdiffusion.data.call_perturbations` (a cell with guides against A and B is ``"A+B"``), if ``modalities`` names a
        ``guide_layer``.

        Parameters
        ----------
        mdata
            The same cells in the same order in all modalities used. Codes are added to ``obs`` under ``_scvi_*``.
        rna_layer, guide_layer
            Layers with the counts; None means X.
        perturbation_key
            Column that names the perturbation of every cell; with a guide matrix, the name it gets in generated cells.
        guide_target_key, min_guide_counts, min_guide_share
            Of the rule: ``target_key``, ``min_counts`` and ``min_share`` there.
        control, batch_key, labels_key, size_factor_key, categorical_covariate_keys, continuous_covariate_keys, combination_sep
            As in :meth:`setup_anndata`.
        embedding_key
            As there, in ``mdata.uns``.
        modalities
            Argument of this method to modality; ``{"rna_layer": "rna"}`` by default. Columns without an entry are those of
            ``mdata.obs``.
        context_key
            As in :meth:`setup_anndata`.
        **kwargs
            Used by scvi-tools when it loads a model.

        Raises
        ------
        TypeError
            If an argument that names something is no text.
        KeyError
            If a column, layer or table is missing.
        ValueError
            If modalities, counts, guides, control or contexts are not as they must be; the message says how to mend it.

        Examples
        --------
        >>> import mudata
        >>> from dbdiffusion import DBDiffusion, simulate_screen
        >>> rna = simulate_screen(n_genes=40, n_perturbations=6, n_cells_per_perturbation=20, n_control_cells=40)
        >>> mdata = mudata.MuData({"rna": rna})
        >>> DBDiffusion.setup_mudata(mdata, modalities={"rna_layer": "rna", "perturbation_key": "rna"})
        >>> len(DBDiffusion(mdata, n_folds=2).perturbation_names)
        6
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        arguments = setup_method_args["setup_args"]
        check_kind(mdata, is_mudata=True)
        if modalities is not None and not isinstance(modalities, dict):
            msg = f"`modalities` must be a dict of arguments and modalities, got {modalities!r} ({type(modalities).__name__})."
            raise TypeError(msg)
        located = cls._create_modalities_attr_dict(modalities or {"rna_layer": "rna"}, setup_method_args)
        if located["rna_layer"] is None:
            msg = "`modalities` must say where the counts are: `modalities={'rna_layer': 'rna', ...}`."
            raise ValueError(msg)
        _check_arguments(arguments, kwargs)
        check_modalities(mdata, {name for name in located.values() if name is not None})
        holders = {name: mdata if located[name] is None else mdata.mod[located[name]] for name in COLUMN_ARGUMENTS}
        for name, holder in holders.items():
            check_columns(holder.obs, name, arguments[name])
        perturbations = mudata_perturbations(located, arguments)
        if context_key is not None:
            contexts = holders["context_key"].obs[context_key]
            check_contexts(contexts, perturbations.names(mdata), context_key, control)
        fields = mudata_fields(located, perturbations, arguments)
        if _is_news(kwargs):
            rna = mdata.mod[located["rna_layer"]]
            vectors = _names_in(mdata.uns, embedding_key)
            say_suspicions(perturbations.labels(mdata), perturbations.name_rule(mdata), rna.var, vectors)
        cls._register(mdata, ScreenManager(fields=fields, setup_method_args=setup_method_args), kwargs)

    @classmethod
    def _register(cls, data: AnnData | MuData, manager: ScreenManager, transfer: dict[str, Any]) -> None:
        """Register all or nothing; a copy of a registered AnnData gets an identity of its own."""
        with undone_if_it_fails(data):
            original = cls._setup_adata_manager_store.get(data.uns.get(DATA_UUID))
            if original is not None and original.adata is not data:
                assign_uuid(data, overwrite=True)
            manager.register_fields(data, **transfer)
            if _is_news(transfer) and manager.totals is not None:
                if REGISTRY_KEYS.SIZE_FACTOR_KEY not in manager.data_registry:
                    say_other_totals(manager.rna.obs, manager.totals)
                groups = CellGroups(manager)
                groups.check()
                groups.say_what_is_lost()
                groups.say_few_control()
            cls.register_manager(manager)

    @classmethod
    def setup_annbatch(cls, *_args: Any, **_kwargs: Any) -> None:
        """Not for this model: annbatch's registry cannot name perturbations.

        Raises
        ------
        NotImplementedError
            Always.

        Examples
        --------
        >>> from dbdiffusion import DBDiffusion
        >>> DBDiffusion.setup_annbatch()
        Traceback (most recent call last):
        ...
        NotImplementedError: ...
        """
        msg = "annbatch's registry cannot name perturbations. Set up an AnnData, which may be backed: `setup_anndata`."
        raise NotImplementedError(msg)


def _is_news(transfer: dict[str, Any]) -> bool:
    """Whether these perturbations are set up for the first time, and not brought to a model that knows them."""
    known = (transfer.get("source_registry") or {}).get("field_registries", {})
    return REGISTRY.PERTURBATION not in known or bool(transfer.get("extend_categories"))


def _names_in(uns: Any, key: str | None) -> list[str]:
    table = uns.get(key) if key is not None else None
    return [] if table is None else [str(name) for name in getattr(table, "index", ())]


def _check_arguments(arguments: dict[str, Any], others: dict[str, Any]) -> None:
    foreign = [] if others.get("source_registry") is not None else [name for name in others if name != "source_registry"]
    if foreign:
        msg = f"Set-up has no argument {foreign[0]!r}.{meant(foreign[0], arguments)} It has {sorted(arguments)}."
        raise TypeError(msg)
    texts = {name: arguments[name] for name in ("perturbation_key", "control", "combination_sep")}
    optional = ("layer", "rna_layer", "guide_layer", "guide_target_key", "embedding_key", *COLUMN_ARGUMENTS)
    check_texts({name: arguments[name] for name in optional if name in arguments}, **texts)
