"""Laws of new cells: their effects are those of the model's own reader, and what is missing is named."""

import numpy as np
import pytest

from dbdiffusion import DBDiffusion, compare
from dbdiffusion.predict._compare import effects_of_cells
from dbdiffusion.screen import NameRule


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_effects_are_those_that_a_model_reads(screen, batch_key):
    adata = screen.copy()
    adata.obs["total"] = np.asarray(adata.X.sum(axis=1)).ravel() * 3.0
    DBDiffusion.setup_anndata(adata, batch_key=batch_key, size_factor_key="total")
    expected = DBDiffusion(adata, n_latent=2).observed_effects().set_index(["target", "variable"])
    table = effects_of_cells(screen_with(screen), NameRule(), batch_key=batch_key, size_factor_key="total")
    table = table.set_index(["target", "variable"]).loc[expected.index]
    assert np.allclose(table["effect"], expected["effect"], atol=1e-5)
    assert np.allclose(table["se"], expected["se"], rtol=1e-3)


def screen_with(screen):
    adata = screen.copy()
    adata.obs["total"] = np.asarray(adata.X.sum(axis=1)).ravel() * 3.0
    adata.layers["counts"] = adata.X
    return adata


def test_compare_takes_cells(screen):
    table = effects_of_cells(screen, NameRule(), batch_key="batch")
    predicted = table.assign(df=1e6)
    comparison = compare(predicted, screen, batch_key="batch")
    assert (comparison.table["pearson"] > 1 - 1e-9).all()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"perturbation_key": "perturbatoin"}, KeyError, "Did you mean 'perturbation'"),
        ({"batch_key": "lane"}, KeyError, "no column 'lane'"),
        ({"layer": "count"}, KeyError, "no layer 'count'. Did you mean 'counts'"),
        ({"control": "NT"}, ValueError, "must hold control cells .'NT'"),
    ],
)
def test_what_is_missing_is_named(screen, options, error, words):
    with pytest.raises(error, match=words):
        effects_of_cells(screen_with(screen), NameRule(), **options)
