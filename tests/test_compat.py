"""Private names of scvi-tools: there on this version, and imported in one file only."""

import ast
import importlib
from pathlib import Path

import pytest
import scvi

import dbdiffusion
from dbdiffusion import _compat

SOURCE = Path(dbdiffusion.__file__).parent


def scvi_imports(file):
    """Pairs (module, name) of what a file imports from scvi-tools."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "scvi":
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "scvi")


def is_private(module, name):
    return any(part.startswith("_") for part in [*module.split("."), name])


@pytest.mark.parametrize(("module", "name"), sorted(scvi_imports(SOURCE / "_compat.py")))
def test_private_name_exists(module, name):
    assert hasattr(importlib.import_module(module), name)


INHERITED = (
    "_create_modalities_attr_dict",
    "_get_fields_for_adata_minification",
    "_get_init_params",
    "_get_most_recent_anndata_manager",
    "_get_setup_method_args",
    "_get_user_attributes",
    "_register_manager_for_instance",
    "_validate_anndata",
)


@pytest.mark.parametrize("name", INHERITED)
def test_private_attribute_is_inherited(name):
    assert hasattr(scvi.model.SCVI, name)


def test_every_offered_name_is_there():
    assert all(getattr(_compat, name) is not None for name in _compat.__all__)


def test_private_names_are_imported_in_one_file_only():
    strays = [
        f"{file.relative_to(SOURCE)}: {module}.{name}"
        for file in SOURCE.rglob("*.py")
        if file.name != "_compat.py"
        for module, name in scvi_imports(file)
        if is_private(module, name)
    ]
    assert strays == []


def test_minify_types_are_the_two_we_know():
    assert tuple(_compat.ADATA_MINIFY_TYPE) == (
        "latent_posterior_parameters",
        "latent_posterior_parameters_with_counts",
    )
