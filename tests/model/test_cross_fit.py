import numpy as np
import pandas as pd
import pytest
import torch
from tiny import tiny_model, tiny_screen, train_quickly

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


@pytest.fixture(scope="module")
def paired():
    adata = tiny_screen(n_perturbations=8, n_combinations=4)
    DBDiffusion.setup_anndata(adata)
    return train_quickly(tiny_model(adata), 1, 1)


def test_a_fold_of_single_perturbations_does_without_their_combinations(paired):
    names, folds = np.array(paired._screen().names), paired.cross_fit_["folds"]
    for fold, space in enumerate(paired.cross_fit_["spaces"]):
        scored, kept = set(names[folds == fold]), set(names[space["kept"]])
        assert scored
        assert not scored & kept
        if not any("+" in name for name in scored):
            assert not any(scored & set(name.split("+")) for name in kept)
            assert kept == {name for name in names if not scored & set(name.split("+"))}
        else:
            assert kept == set(names) - scored
    assert (folds >= 0).all()


def test_two_networks_predict_single_perturbations():
    adata = tiny_screen(n_perturbations=8, n_combinations=4)
    DBDiffusion.setup_anndata(adata)
    model = train_quickly(tiny_model(adata, n_folds=2), 1, 1)
    references = model.reference_predictions(cross_fitting="k_fold", n_cells=8)
    assert set(references["target"]) == {name for name in model.perturbation_names if "+" not in name}


def test_folds_can_be_left_out_again_and_are_the_same(paired):
    before, scores = paired._screen().left_out, paired.embedding_scores()
    predictions = paired.reference_predictions(n_cells=8)
    paired.leave_out_folds()
    after = paired._screen().left_out
    assert after is not before
    assert (after.folds, after.inner) == (before.folds, before.inner)
    for one, other in zip(after.spaces, before.spaces, strict=True):
        assert np.array_equal(one.vectors, other.vectors)
        assert np.array_equal(one.noise, other.noise)
    pd.testing.assert_frame_equal(paired.embedding_scores(), scores, check_exact=True)
    pd.testing.assert_frame_equal(paired.reference_predictions(n_cells=8), predictions, check_exact=True)


def test_folds_are_left_out_of_the_cells_of_the_training_alone(paired, tmp_path):
    paired.save(tmp_path / "model")
    left_out = paired.screen_["left_out"]
    gone = paired.perturbation_names[0]
    fewer = paired.adata[paired.adata.obs["perturbation"] != gone].copy()
    for adata, message in ((fewer, f"trained on.*{gone}"), (False, "needs cells")):
        other = DBDiffusion.load(tmp_path / "model", adata=adata)
        with pytest.raises(ValueError, match=message):
            other.leave_out_folds()
        assert len(other.screen_["left_out"]["vectors"]) == len(left_out["vectors"])
        assert other.predict_effects(gone, n_cells=8)["effect"].notna().all()


def test_leaving_folds_out_needs_stage_two():
    adata = tiny_screen(n_perturbations=5)
    DBDiffusion.setup_anndata(adata)
    with pytest.raises(RuntimeError, match="Stage one"):
        tiny_model(adata).leave_out_folds()


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
