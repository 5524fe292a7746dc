import numpy as np
import pytest
import torch
from tiny import tiny_model, tiny_screen

from dbdiffusion import DBDiffusion


def test_a_fold_knows_nothing_of_what_it_leaves_out(trained):
    folds, spaces = trained.cross_fit_["folds"], trained.cross_fit_["spaces"]
    for fold, space in enumerate(spaces):
        assert set(space["kept"]) == set(np.flatnonzero(folds != fold))
    assert sorted(np.unique(folds)) == list(range(len(spaces)))


def test_cells_of_a_fold_do_not_move_its_network():
    """Spoiling the latents of the cells that a fold leaves out changes nothing in the fold, bit for bit."""
    adata = tiny_screen(n_perturbations=6)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train(max_epochs=1, max_epochs_diffusion=1, enable_progress_bar=False)
    clean = model._encode()
    weights = []
    for spoiled in (False, True):
        if spoiled:
            names = np.array(model._screen().names)[model.cross_fit_["folds"] == 0]
            rows = torch.as_tensor(np.flatnonzero(adata.obs["perturbation"].isin(names)))
            clean.mean[rows] += 100.0
        model._encode = lambda: clean
        torch.manual_seed(1)
        model.cross_fit(max_epochs=2, batch_size=64)
        weights.append([{k: v.clone() for k, v in fold.state_dict().items()} for fold in model.module.folds[:2]])
    assert all(torch.equal(value, weights[1][0][key]) for key, value in weights[0][0].items())
    assert not torch.equal(weights[0][1]["mean"], weights[1][1]["mean"])


def test_main_diffusion_is_untouched():
    adata = tiny_screen(n_perturbations=5)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train(max_epochs=1, max_epochs_diffusion=1, enable_progress_bar=False)
    before = {key: value.clone() for key, value in model.module.diffusion.state_dict().items()}
    model.cross_fit(max_epochs=1, batch_size=64)
    assert all(torch.equal(value, model.module.diffusion.state_dict()[key]) for key, value in before.items())


def test_needs_stage_two():
    adata = tiny_screen(n_perturbations=5)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    with pytest.raises(RuntimeError, match="Stage one"):
        model.cross_fit()
