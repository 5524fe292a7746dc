import numpy as np
import pytest
import scvi
from tiny import QUIET, tiny_model, tiny_screen, train_quickly

from dbdiffusion import DBDiffusion
from dbdiffusion._compat import ADATA_MINIFY_TYPE


def minified(stages=2, kind=ADATA_MINIFY_TYPE.LATENT_POSTERIOR):
    adata = tiny_screen(n_perturbations=5)
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    model = tiny_model(adata)
    if stages == 2:
        train_quickly(model, 1, 1)
    else:
        model.train_vae(max_epochs=1, **QUIET)
    adata.obsm["X_latent_qzm"], adata.obsm["X_latent_qzv"] = model.get_latent_representation(return_dist=True)
    latent = model.get_latent_representation()
    model.minify_adata(kind)
    return model, adata, latent


@pytest.mark.parametrize("stages", [1, 2])
def test_stage_two_and_generation_run_on_minified_data(stages):
    model, adata, latent = minified(stages)
    assert model.adata.X.nnz == 0
    assert np.array_equal(model.get_latent_representation(), latent)
    model.train_diffusion(max_epochs=1, **QUIET)
    gene = next(g for g in adata.var_names if g not in model.perturbation_names)
    assert model.generate([gene, model.perturbation_names[0]], n_cells=3).X.sum() > 0
    table = model.differential_expression_ppi([gene, model.perturbation_names[0]])
    assert np.isfinite(table["effect"]).all()
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    observed = tiny_model(adata).observed_effects().query("target == @model.perturbation_names[0]")
    told = table.query("target == @model.perturbation_names[0]").set_index("variable").loc[observed["variable"], "effect"]
    assert np.allclose(told, observed["effect"])


def test_a_failed_stage_two_keeps_the_effects():
    model, _, _ = minified(1)
    with pytest.raises(FloatingPointError):
        model.train_diffusion(max_epochs=3, plan_kwargs={"lr": 1e38}, **QUIET)
    model.train_diffusion(max_epochs=1, **QUIET)
    assert model.generate(model.perturbation_names[0], n_cells=2).n_obs == 2


def test_what_needs_counts_refuses():
    model, _, _ = minified()
    for function in (
        lambda: model.train_vae(max_epochs=1, **QUIET),
        model.cross_fit,
        model.observed_effects,
    ):
        with pytest.raises(ValueError, match="needs counts"):
            function()
    with pytest.raises(ValueError, match="does not support minified data"):
        model.get_elbo()


def test_kept_counts_refuse_nothing():
    model, _, latent = minified(kind=ADATA_MINIFY_TYPE.LATENT_POSTERIOR_WITH_COUNTS)
    assert np.array_equal(model.get_latent_representation(), latent)
    assert np.isfinite(model.observed_effects()["effect"]).all()
    model.cross_fit(max_epochs=1)
    model.train_diffusion(max_epochs=1, **QUIET)
    assert model.is_diffusion_trained_


@pytest.mark.parametrize("stages", [1, 2])
def test_saved_with_minified_data_and_loaded_with_either(stages, tmp_path):
    model, adata, latent = minified(stages)
    model.save(tmp_path / "model", save_anndata=True)
    loaded = DBDiffusion.load(tmp_path / "model")
    assert np.array_equal(loaded.get_latent_representation(), latent)
    loaded.train_diffusion(max_epochs=1, **QUIET)
    assert loaded.generate(model.perturbation_names[0], n_cells=2).n_obs == 2
    whole = DBDiffusion.load(tmp_path / "model", adata=adata)
    assert np.array_equal(whole.get_latent_representation(), latent)
    whole.train_vae(max_epochs=1, **QUIET)
    assert np.isfinite(whole.observed_effects()["effect"]).all()


def test_a_model_with_counts_and_minified_data_do_not_go_together(tmp_path):
    model, adata, _ = minified()
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    whole = tiny_model(adata)
    whole.train_vae(max_epochs=1, **QUIET)
    whole.save(tmp_path / "model")
    with pytest.raises((ValueError, KeyError)):
        DBDiffusion.load(tmp_path / "model", adata=model.adata)


def test_normalized_expression_of_minified_data():
    model, adata, _ = minified()
    scvi.settings.seed = 0
    assert model.get_normalized_expression().shape == adata.shape


def test_missing_latents_are_named():
    adata = tiny_screen(n_perturbations=5)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train_vae(max_epochs=1, **QUIET)
    with pytest.raises(KeyError, match="return_dist=True"):
        model.minify_adata()
