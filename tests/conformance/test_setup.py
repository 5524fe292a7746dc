"""Registration, transfer and managers: rows 5, 11 to 13, 20, 23, 24, 26, 27, 44, 45 of scvi-tools' own tests."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
from dressed import SETUP, briefly, dressed_screen, fresh
from tiny import QUIET, tiny_model

from dbdiffusion import DBDiffusion

EVERYTHING = {
    **SETUP,
    "categorical_covariate_keys": ["donor", "lane"],
    "continuous_covariate_keys": ["phase", "depth"],
}


def test_row_05_the_setup_is_shown(dressed, capsys):
    dressed.view_anndata_setup()
    whole = capsys.readouterr().out
    assert "perturbation" in whole
    dressed.view_anndata_setup(hide_state_registries=True)
    assert len(capsys.readouterr().out) < len(whole)
    other = dressed_screen()
    with pytest.raises(ValueError, match="not setup with DBDiffusion"):
        dressed.view_anndata_setup(other)
    dressed.get_latent_representation(other)
    dressed.view_anndata_setup(other)
    assert "perturbation" in capsys.readouterr().out


def test_row_11_a_view_is_transferred(dressed):
    view = dressed_screen()[:10]
    assert dressed.get_latent_representation(view).shape == (10, 5)


def test_row_12_a_copy_gets_a_uuid_of_its_own(dressed):
    copy = dressed.adata.copy()
    dressed.get_latent_representation(copy)
    assert copy.uns["_scvi_uuid"] != dressed.adata.uns["_scvi_uuid"]


@pytest.mark.parametrize("column", ["batch", "lane", "perturbation"])
def test_row_13_renamed_categories_are_refused(dressed, column):
    other = dressed_screen()
    other.obs[column] = "X_" + other.obs[column].astype(str)
    with pytest.raises(ValueError, match="X_"):
        dressed.get_latent_representation(other)


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix])
def test_row_20_sparse_counts(kind):
    adata = dressed_screen()
    adata.X = kind(adata.X)
    model = briefly(fresh(adata))
    table = model.differential_expression(groupby="perturbation", group1="control", silent=True)
    assert np.isfinite(table["bayes_factor"]).all()


def test_row_23_another_anndata_is_set():
    model = briefly(fresh())
    before = model.registry_
    other = dressed_screen()
    model.adata = other
    assert model.adata is other
    assert model.registry_ is not before
    assert model.generate(model.perturbation_names[0], n_cells=2).n_obs == 2
    with pytest.raises(KeyError, match="batch"):
        model.adata = ad.AnnData(other.X.copy(), obs=other.obs[["perturbation"]].copy(), var=other.var)


def test_row_24_a_transferred_registry_is_the_same():
    adata, other = dressed_screen(), dressed_screen()
    DBDiffusion.setup_anndata(adata, **EVERYTHING)
    manager = DBDiffusion._get_most_recent_anndata_manager(adata)
    transferred = manager.transfer_fields(other)
    assert set(manager.registry) >= {"scvi_version", "model_name", "setup_args", "field_registries", "setup_method_name"}
    assert manager.registry["model_name"] == "DBDiffusion"
    assert set(manager.data_registry) == {
        "X", "batch", "labels", "size_factor", "extra_categorical_covs", "extra_continuous_covs", "perturbation",
    }  # fmt: skip
    np.testing.assert_equal(dict(manager.registry["field_registries"]), dict(transferred.registry["field_registries"]))


def test_row_26_backed_anndata_trains(tmp_path):
    adata = dressed_screen()
    del adata.uns["true_effects"]
    adata.write_h5ad(tmp_path / "screen.h5ad")
    backed = ad.read_h5ad(tmp_path / "screen.h5ad", backed="r+")
    model = briefly(fresh(backed))
    assert model.generate(model.perturbation_names[0], n_cells=2).n_obs == 2
    backed.file.close()


@pytest.mark.parametrize("encode", [False, True])
def test_row_27_covariates_encoded_or_not(encode):
    model = briefly(fresh(setup=EVERYTHING, encode_covariates=encode))
    assert model.get_latent_representation().shape == (model.adata.n_obs, 5)
    assert model.generate(model.perturbation_names[0], n_cells=2).n_obs == 2
    assert np.isfinite(model.differential_expression_ppi(model.perturbation_names[0])["effect"]).all()


def test_row_44_managers():
    adata = dressed_screen()
    with pytest.raises(TypeError, match="no argument"):
        DBDiffusion.setup_anndata(adata, batches="batch")
    model = fresh(adata)
    scvi.model.SCVI.setup_anndata(adata, batch_key="lane")
    briefly(model)
    assert model.summary_stats.n_batch == 2
    assert list(model.adata_manager.get_state_registry("batch")["categorical_mapping"]) == sorted(set(adata.obs["batch"]))
    second = fresh(dressed_screen())
    model.deregister_manager()
    assert model.get_anndata_manager(adata) is not None
    assert DBDiffusion._get_most_recent_anndata_manager(second.adata) is None
    with pytest.raises(ValueError, match="set up"):
        DBDiffusion(second.adata)


def test_row_45_missing_values_and_views_are_refused_and_a_set_up_anndata_is_written(tmp_path):
    adata = dressed_screen()
    adata.obs["batch"] = pd.Series([None, *adata.obs["batch"].astype(str)[1:]], index=adata.obs_names, dtype=object)
    with pytest.raises(ValueError, match="batch"):
        DBDiffusion.setup_anndata(adata, batch_key="batch")
    with pytest.raises(ValueError, match=r"adata\.copy"):
        DBDiffusion.setup_anndata(dressed_screen()[::2])
    adata = dressed_screen()
    adata.X = np.asfortranarray(adata.X.toarray())
    model = fresh(adata)
    del adata.uns["true_effects"]
    adata.write_h5ad(tmp_path / "screen.h5ad")
    assert np.array_equal(
        ad.read_h5ad(tmp_path / "screen.h5ad").obs["_scvi_perturbation"], model.adata.obs["_scvi_perturbation"]
    )


def test_a_registry_is_enough_to_build_a_model(dressed):
    model = DBDiffusion(registry=dressed.registry_, n_latent=4)
    assert model.adata is None
    assert model.perturbation_names == dressed.perturbation_names


def test_row_33_data_modules_are_refused_in_words():
    with pytest.raises(NotImplementedError, match="cannot name perturbations"):
        DBDiffusion.setup_annbatch()
    with pytest.raises(ValueError, match="cannot name perturbations"):
        DBDiffusion(registry={"field_registries": {}, "setup_args": {}})


def test_a_copy_cannot_take_the_place_of_the_registered_anndata():
    adata = dressed_screen()
    DBDiffusion.setup_anndata(adata)
    with pytest.raises(ValueError, match="copy"):
        tiny_model(adata.copy())
    tiny_model(adata).train_vae(max_epochs=1, **QUIET)
