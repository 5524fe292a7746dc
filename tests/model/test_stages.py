import pytest
import torch
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion


@pytest.fixture
def model():
    adata = tiny_screen(n_perturbations=5)
    DBDiffusion.setup_anndata(adata)
    return tiny_model(adata)


def test_retraining_the_vae_forgets_stage_two(model):
    model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET)
    assert model.is_diffusion_trained_
    model.train_vae(max_epochs=1, **QUIET)
    assert not model.is_diffusion_trained_
    with pytest.raises(RuntimeError, match="Stage two"):
        model.perturbation_embeddings()


def test_stages_share_the_split_of_cells(model):
    model.train_vae(max_epochs=1, **QUIET)
    split = model.train_indices.copy(), model.validation_indices.copy()
    model.train_diffusion(max_epochs=1, **QUIET)
    assert (model.train_indices == split[0]).all()
    assert (model.validation_indices == split[1]).all()


def test_the_vae_encodes_in_eval_mode_whatever_mode_it_was_left_in(model):
    model.train_vae(max_epochs=1, **QUIET)
    own = ("diffusion.", "folds.")
    before = {name: value.clone() for name, value in model.module.state_dict().items() if not name.startswith(own)}
    model.module.train()
    latents = model._encode()
    model.module.eval()
    assert torch.equal(latents.mean, torch.as_tensor(model.get_latent_representation()))
    model.module.train()
    model.train_diffusion(max_epochs=1, **QUIET)
    after = model.module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_early_stopping_of_stage_two(model):
    model.train_vae(max_epochs=1, **QUIET)
    model.train_diffusion(max_epochs=40, batch_size=64, early_stopping=True, early_stopping_patience=1, **QUIET)
    assert 1 < len(model.history["diffusion_validation_loss"]) < 40


def test_stage_two_twice_appends_its_history(model):
    model.train_vae(max_epochs=1, **QUIET)
    model.train_diffusion(max_epochs=2, **QUIET)
    model.train_diffusion(max_epochs=3, **QUIET)
    assert len(model.history["diffusion_train_loss"]) == 5
    assert len(model.history["elbo_train"]) == 1


def test_epochs_must_be_positive(model):
    model.train_vae(max_epochs=1, **QUIET)
    with pytest.raises(ValueError, match="max_epochs"):
        model.train_diffusion(max_epochs=-1, **QUIET)


def test_lightning_does_not_warn_of_what_is_meant(model, recwarn):
    model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET)
    recwarn.clear()  # of stage one, which is scvi-tools' own
    model.train_diffusion(max_epochs=1, **QUIET)
    assert not [one for one in recwarn if "in eval mode" in str(one.message) or "logging interval" in str(one.message)]
