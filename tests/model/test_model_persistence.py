import numpy as np
import pytest
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion


def same_tables(a, b):
    assert list(a.columns) == list(b.columns)
    numbers = a.select_dtypes("number").columns
    assert np.allclose(a[numbers], b[numbers], equal_nan=True, rtol=1e-6, atol=1e-9)


def test_save_load_same_tables_and_cells(trained, unseen, tmp_path):
    before = trained.differential_expression_ppi([*unseen, trained.perturbation_names[0]])
    cells = trained.generate(unseen, n_cells=7)
    trained.save(tmp_path / "model")
    loaded = DBDiffusion.load(tmp_path / "model", adata=trained.adata)
    same_tables(before, loaded.differential_expression_ppi([*unseen, trained.perturbation_names[0]]))
    assert np.array_equal(cells.X.toarray(), loaded.generate(unseen, n_cells=7).X.toarray())
    assert loaded.history.keys() == trained.history.keys()


def test_load_without_data_still_predicts(trained, unseen, tmp_path):
    before = trained.predict_effects(unseen)
    trained.save(tmp_path / "model")
    loaded = DBDiffusion.load(tmp_path / "model", adata=False)
    same_tables(before, loaded.predict_effects(unseen))


def test_save_with_data(trained, unseen, tmp_path):
    trained.save(tmp_path / "model", save_anndata=True)
    loaded = DBDiffusion.load(tmp_path / "model")
    assert loaded.adata.n_obs == trained.adata.n_obs
    same_tables(trained.predict_effects(unseen), loaded.predict_effects(unseen))


def test_after_stage_one_only(tmp_path):
    adata = tiny_screen()
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train_vae(max_epochs=1, **QUIET)
    model.save(tmp_path / "model")
    loaded = DBDiffusion.load(tmp_path / "model", adata=adata)
    assert np.array_equal(model.get_latent_representation(), loaded.get_latent_representation())
    with pytest.raises(RuntimeError, match="train_diffusion"):
        loaded.generate("GENE01")
    loaded.train_diffusion(max_epochs=1, **QUIET)
    assert loaded.generate(loaded.perturbation_names[0], n_cells=3).n_obs == 3


def test_a_failed_second_stage_leaves_the_first(tmp_path):
    adata = tiny_screen()
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train_vae(max_epochs=1, **QUIET)
    latent = model.get_latent_representation()
    with pytest.raises(FloatingPointError, match="Lower `lr`"):
        model.train_diffusion(max_epochs=3, plan_kwargs={"lr": 1e38}, **QUIET)
    assert np.array_equal(latent, model.get_latent_representation())
    with pytest.raises(RuntimeError, match="train_diffusion"):
        model.generate(model.perturbation_names[0])
    model.train_diffusion(max_epochs=1, **QUIET)
    assert model.generate(model.perturbation_names[0], n_cells=2).n_obs == 2


def test_another_anndata(trained, unseen):
    other = tiny_screen(seed=2)
    other = other[other.obs["perturbation"].isin([*trained.perturbation_names, "control"])].copy()
    assert trained.get_latent_representation(other).shape == (other.n_obs, 5)


def test_a_checkpoint_of_either_stage_can_be_taken_up(tmp_path, monkeypatch):
    import scvi

    monkeypatch.setattr(scvi.settings, "logging_dir", str(tmp_path))
    adata = tiny_screen(n_perturbations=4)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train_vae(max_epochs=1, enable_checkpointing=True, **QUIET)
    model.train_diffusion(max_epochs=1, enable_checkpointing=True, check_val_every_n_epoch=1, **QUIET)
    checkpoints = sorted(tmp_path.rglob("model.pt"))
    assert len(checkpoints) == 2
    for checkpoint in checkpoints:
        loaded = DBDiffusion.load(checkpoint.parent, adata=adata)
        with pytest.raises(RuntimeError, match="train_diffusion"):
            loaded.generate(model.perturbation_names[0])
        loaded.train_diffusion(max_epochs=1, **QUIET)
        assert loaded.generate(model.perturbation_names[0], n_cells=2).n_obs == 2


def test_stage_two_is_resumed_from_the_middle(tmp_path, monkeypatch):
    import scvi

    monkeypatch.setattr(scvi.settings, "logging_dir", str(tmp_path))
    adata = tiny_screen(n_perturbations=4)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train_vae(max_epochs=1, **QUIET)
    with pytest.raises(ValueError, match="warm_start"):
        model.train_diffusion(max_epochs=1, warm_start=True, **QUIET)
    model.train_diffusion(max_epochs=1, enable_checkpointing=True, check_val_every_n_epoch=1, **QUIET)
    loaded = DBDiffusion.load(next(tmp_path.rglob("model.pt")).parent, adata=adata)
    weights = {name: value.clone() for name, value in loaded.module.diffusion.state_dict().items()}
    loaded.train_diffusion(max_epochs=1, warm_start=True, plan_kwargs={"lr": 1e-12, "weight_decay": 0.0}, **QUIET)
    for name, value in loaded.module.diffusion.state_dict().items():
        if not name.startswith(("is_fitted", "averaged")):
            assert np.allclose(value, weights[name], atol=1e-5), name
    assert loaded.is_diffusion_trained_
    loaded.train_vae(max_epochs=1, **QUIET)
    with pytest.raises(ValueError, match="warm_start"):
        loaded.train_diffusion(max_epochs=1, warm_start=True, **QUIET)


def test_without_data_what_needs_cells_says_so(trained, tmp_path):
    trained.save(tmp_path / "model")
    loaded = DBDiffusion.load(tmp_path / "model", adata=False)
    for function in (loaded.train_vae, loaded.train_diffusion, loaded.cross_fit, loaded.observed_effects, loaded.minify_adata):
        with pytest.raises(ValueError, match="needs cells"):
            function()
