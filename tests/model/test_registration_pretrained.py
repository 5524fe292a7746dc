import numpy as np
import pytest
import scvi
import torch
from tiny import QUIET, tiny_screen

from dbdiffusion import DBDiffusion

SMALL = {"n_embedding": 6, "n_diffusion_hidden": 16, "n_diffusion_blocks": 1, "n_folds": 2}


def trained_scvi(adata, **options):
    scvi.settings.seed = 0
    model = scvi.model.SCVI(adata, **{"gene_likelihood": "nb", "n_hidden": 16, "n_latent": 4, **options})
    model.train(max_epochs=1, batch_size=64, check_val_every_n_epoch=1, **QUIET)
    return model


@pytest.fixture(scope="module")
def pretrained():
    adata = tiny_screen(n_perturbations=5)
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    return trained_scvi(adata)


def test_latents_are_the_same_bit_for_bit_before_and_after_stage_two(pretrained):
    before = pretrained.get_latent_representation()
    state = {key: value.clone() for key, value in pretrained.module.state_dict().items()}
    model = DBDiffusion.from_scvi_model(pretrained, **SMALL)
    assert np.array_equal(model.get_latent_representation(), before)
    model.train_diffusion(max_epochs=2, **QUIET)
    assert np.array_equal(model.get_latent_representation(), before)
    assert np.array_equal(pretrained.get_latent_representation(), before)
    assert all(torch.equal(value, pretrained.module.state_dict()[key]) for key, value in state.items())
    assert all(torch.equal(value, model.module.state_dict()[key]) for key, value in state.items())
    table = model.differential_expression_ppi(model.perturbation_names[:2])
    assert np.isfinite(table["effect"]).all()


def test_split_and_history_are_taken_along(pretrained):
    model = DBDiffusion.from_scvi_model(pretrained, **SMALL)
    assert np.array_equal(model.train_indices, pretrained.train_indices)
    assert np.array_equal(model.validation_indices, pretrained.validation_indices)
    assert model.history["elbo_train"].equals(pretrained.history["elbo_train"])
    assert not model.is_diffusion_trained_


def test_codes_are_those_of_the_scvi_model_also_for_other_cells(pretrained):
    other = tiny_screen(n_perturbations=5, seed=1)
    other = other[other.obs["batch"] == other.obs["batch"].astype(str).max()].copy()
    other.obs["batch"] = other.obs["batch"].astype(str).astype("category")
    model = DBDiffusion.from_scvi_model(pretrained, adata=other, **SMALL)
    assert (
        model.adata_manager.get_state_registry("batch")["categorical_mapping"].tolist()
        == pretrained.adata_manager.get_state_registry("batch")["categorical_mapping"].tolist()
    )
    assert model.train_indices is None
    model.train_diffusion(max_epochs=1, **QUIET)
    assert model.generate(model.perturbation_names[0], n_cells=3).n_obs == 3


def test_save_and_load(pretrained, tmp_path):
    model = DBDiffusion.from_scvi_model(pretrained, **SMALL)
    model.save(tmp_path / "model")
    loaded = DBDiffusion.load(tmp_path / "model", adata=model.adata)
    assert np.array_equal(loaded.get_latent_representation(), pretrained.get_latent_representation())


def test_other_modules_are_refused(pretrained):
    with pytest.raises(TypeError, match=r"scvi\.model\.SCVI"):
        DBDiffusion.from_scvi_model("a path")
    with pytest.raises(TypeError, match="DBDiffusionVAE"):
        DBDiffusion.from_scvi_model(DBDiffusion.from_scvi_model(pretrained, **SMALL))


def test_arguments_of_the_vae_are_refused(pretrained):
    with pytest.raises(ValueError, match="n_latent"):
        DBDiffusion.from_scvi_model(pretrained, n_latent=7)


def test_untrained_or_of_another_likelihood():
    adata = tiny_screen(n_perturbations=5)
    scvi.model.SCVI.setup_anndata(adata)
    with pytest.raises(RuntimeError, match="not trained"):
        DBDiffusion.from_scvi_model(scvi.model.SCVI(adata))
    with pytest.raises(ValueError, match="gene_likelihood"):
        DBDiffusion.from_scvi_model(trained_scvi(adata, gene_likelihood="normal"))
    with pytest.raises(ValueError, match="latent_distribution"):
        DBDiffusion.from_scvi_model(trained_scvi(adata, latent_distribution="ln"))


def test_minified_or_without_data(tmp_path):
    adata = tiny_screen(n_perturbations=5)
    scvi.model.SCVI.setup_anndata(adata)
    model = trained_scvi(adata)
    model.save(tmp_path / "model")
    without = scvi.model.SCVI.load(tmp_path / "model", adata=False)
    with pytest.raises(ValueError, match="adata="):
        DBDiffusion.from_scvi_model(without)
    adata.obsm["X_latent_qzm"], adata.obsm["X_latent_qzv"] = model.get_latent_representation(return_dist=True)
    latent = model.get_latent_representation()
    model.minify_adata()
    with pytest.raises(ValueError, match="minified"):
        DBDiffusion.from_scvi_model(model)
    again = DBDiffusion.from_scvi_model(model, adata=tiny_screen(n_perturbations=5), **SMALL)
    assert np.array_equal(again.get_latent_representation(), latent)
