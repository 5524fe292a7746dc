"""Registry fields of a screen, by the arguments of the set-up."""

from __future__ import annotations

from typing import Any

from scvi import REGISTRY_KEYS
from scvi.data.fields import (
    CategoricalJointObsField,
    CategoricalObsField,
    LayerField,
    MuDataWrapper,
    NumericalJointObsField,
    NumericalObsField,
)

from dbdiffusion._keys import REGISTRY
from dbdiffusion.data import (
    GuideRule,
    MuDataPerturbationField,
    MuDataUserVectorsField,
    PerturbationField,
    UserVectorsField,
)

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
