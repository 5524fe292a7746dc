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
        weights.append([fold["weights"] for fold in model.cross_fit_["spaces"][:2]])
    assert all(np.array_equal(value, weights[1][0][key]) for key, value in weights[0][0].items())
    assert not np.array_equal(weights[0][1]["mean"], weights[1][1]["mean"])


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


WAYS = {
    "save": lambda model, folder: (model.save(folder), DBDiffusion.load(folder, adata=model.adata))[1],
    "weights": lambda model, folder: (model.export_weights(folder), DBDiffusion.load_weights(folder, model.adata))[1],
}


@pytest.mark.parametrize("way", WAYS)
def test_retrained_folds_are_saved_with_the_model_and_only_they(trained, unseen, way, tmp_path):
    options = {"cross_fitting": "k_fold", "n_cells": 16}
    right = trained.predict_effects(unseen, **options)["effect"]
    back = WAYS[way](trained, tmp_path / "model")
    np.testing.assert_allclose(back.predict_effects(unseen, **options)["effect"], right, rtol=1e-9, atol=1e-12)
    assert not [name for name in back.module.state_dict() if name.startswith("folds")]


@pytest.mark.parametrize("way", WAYS)
def test_folds_that_an_earlier_version_kept_in_the_module_answer_as_they_did(trained, unseen, way, tmp_path):
    options = {"cross_fitting": "k_fold", "n_cells": 16}
    right = trained.predict_effects(unseen, **options)["effect"]
    old = WAYS[way](trained, tmp_path / "copy")
    folds = {
        f"folds.{i}.{name}": torch.as_tensor(value)
        for i, space in enumerate(old.cross_fit_["spaces"])
        for name, value in space.pop("weights").items()
    }
    state = old.module.state_dict()
    old.module.state_dict = lambda *_args, **_options: {**state, **folds}
    back = WAYS[way](old, tmp_path / "old")
    np.testing.assert_allclose(back.predict_effects(unseen, **options)["effect"], right, rtol=1e-9, atol=1e-12)
    again = WAYS[way](back, tmp_path / "again")
    np.testing.assert_allclose(again.predict_effects(unseen, **options)["effect"], right, rtol=1e-9, atol=1e-12)
