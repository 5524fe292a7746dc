import numpy as np
import pytest
from scvi import REGISTRY_KEYS

from dbdiffusion._keys import REGISTRY
from dbdiffusion.model._setup import COLUMN_ARGUMENTS, anndata_fields, mudata_fields, mudata_perturbations

ARGUMENTS = {
    **dict.fromkeys(COLUMN_ARGUMENTS),
    "perturbation_key": "perturbation",
    "control": "control",
    "combination_sep": "+",
    "embedding_key": None,
}


def keys(fields):
    return {field.registry_key: field.attr_key for field in fields}


def test_every_argument_has_its_field():
    found = keys(anndata_fields(layer="counts", **ARGUMENTS))
    assert found[REGISTRY_KEYS.X_KEY] == "counts"
    assert {"batch", "labels", "size_factor", "perturbation", "perturbation_embedding"} < set(found)
    assert REGISTRY.CONTEXT not in found
    assert REGISTRY.CONTEXT in keys(anndata_fields(layer=None, **{**ARGUMENTS, "context_key": "day"}))


@pytest.mark.parametrize("argument", ["perturbation_key", "batch_key", "labels_key", "context_key", "size_factor_key"])
@pytest.mark.parametrize("column", ["_scvi_batch", "_scvi_labels", "_scvi_perturbation", "_scvi_perturbation_context"])
def test_codes_are_written_beside_the_columns_that_a_user_names(argument, column):
    fields = anndata_fields(layer=None, **{**ARGUMENTS, "context_key": "day", argument: column})
    written = [field.attr_key for field in fields if hasattr(field, "count_stat_key") and field.attr_name == "obs"]
    assert len(written) == 4
    assert column not in written
    assert len(np.unique(written)) == 4


def test_of_mudata_too():
    located = {**dict.fromkeys(COLUMN_ARGUMENTS), "rna_layer": "rna", "guide_layer": None, "perturbation_key": "rna"}
    arguments = {**ARGUMENTS, "rna_layer": "counts", "perturbation_key": "_scvi_perturbation", "batch_key": "_scvi_batch"}
    found = keys(mudata_fields(located, mudata_perturbations(located, arguments), arguments))
    assert found["perturbation"] == "_scvi_perturbation_"
    assert found["batch"] == "_scvi_batch_"
    assert found["X"] == "counts"
