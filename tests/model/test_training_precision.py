import numpy as np
import pytest
import torch
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion


@pytest.fixture
def model():
    adata = tiny_screen(n_perturbations=4)
    DBDiffusion.setup_anndata(adata)
    return tiny_model(adata)


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_weights_have_32_bits_after_either_stage_and_stage_two_leaves_the_vae(model, precision):
    model.train_vae(max_epochs=1, precision=precision, **QUIET)
    latent = model.get_latent_representation()
    model.train_diffusion(max_epochs=1, precision=precision, **QUIET)
    assert {parameter.dtype for parameter in model.module.parameters()} == {torch.float32}
    assert np.array_equal(latent, model.get_latent_representation())
    assert model.generate(model.perturbation_names[0], n_cells=2).n_obs == 2


def test_16_bits_throughout_are_refused(model):
    with pytest.raises(ValueError, match="bf16-mixed"):
        model.train_vae(max_epochs=1, precision="bf16-true")
    model.train_vae(max_epochs=1, **QUIET)
    with pytest.raises(ValueError, match="bf16-mixed"):
        model.train_diffusion(max_epochs=1, precision="16-true")
