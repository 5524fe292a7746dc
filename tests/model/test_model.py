import numpy as np
import pandas as pd
import pytest
from tiny import QUIET, tiny_model, tiny_screen, train_quickly

from dbdiffusion import DBDiffusion
from dbdiffusion.data import PerturbationField


def test_works_with_adata_alone():
    adata = tiny_screen()
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    assert sorted(model.perturbation_names) == sorted(set(adata.obs["perturbation"].astype(str)) - {"control"})


def test_user_object_keeps_everything_but_scvi_codes():
    adata = tiny_screen()
    before = adata.copy()
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    tiny_model(adata)
    assert (adata.X != before.X).nnz == 0
    assert adata.var.equals(before.var)
    added = [column for column in adata.obs if column not in before.obs]
    assert all(column.startswith("_scvi") for column in added)
    assert adata.obs[list(before.obs)].equals(before.obs)


def test_registry_is_shown(capsys):
    adata = tiny_screen()
    adata.uns["vectors"] = pd.DataFrame(np.eye(3), index=adata.var_names[:3])
    DBDiffusion.setup_anndata(adata, embedding_key="vectors")
    tiny_model(adata).view_anndata_setup()
    shown = capsys.readouterr().out
    assert "perturbation State Registry" in shown
    assert "perturbation_embedding State" in shown


def test_histories_of_both_stages(trained):
    assert len(trained.history["elbo_train"]) == 15
    assert len(trained.history["diffusion_train_loss"]) == 15
    assert "elbo_validation" in trained.history


def test_vae_is_bit_identical_after_stage_two_and_folds():
    adata = tiny_screen()
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train_vae(max_epochs=2, batch_size=64, **QUIET)
    parts = lambda: {k: v.clone() for k, v in model.module.state_dict().items() if not k.startswith(("diffusion", "folds"))}  # noqa: E731
    before, latent = parts(), model.get_latent_representation()
    model.train_diffusion(max_epochs=2, batch_size=64, early_stopping=True, **QUIET)
    model.cross_fit(max_epochs=1, batch_size=64)
    after = parts()
    assert all((before[key] == after[key]).all() for key in before)
    assert np.array_equal(latent, model.get_latent_representation())


def test_train_is_the_two_stages():
    adata = tiny_screen()
    DBDiffusion.setup_anndata(adata)
    states = []
    for way in ("train", "stages"):
        import scvi

        scvi.settings.seed = 0
        model = tiny_model(adata)
        if way == "train":
            model.train(max_epochs=2, max_epochs_diffusion=2, **QUIET)
        else:
            model.train_vae(max_epochs=2, **QUIET)
            model.train_diffusion(max_epochs=2, **QUIET)
        states.append(model.module.state_dict())
    assert all((states[0][key] == states[1][key]).all() for key in states[0])


def test_callbacks_of_the_user_stay_as_they_are():
    from lightning.pytorch.callbacks import Callback

    adata = tiny_screen()
    DBDiffusion.setup_anndata(adata)
    callbacks = [Callback()]
    tiny_model(adata).train(max_epochs=1, max_epochs_diffusion=1, callbacks=callbacks, **QUIET)
    assert len(callbacks) == 1


def test_scvi_getters_still_answer(trained):
    adata = trained.adata
    assert trained.get_latent_representation().shape == (adata.n_obs, 5)
    assert trained.get_normalized_expression(n_samples=1, indices=[0, 1, 2]).shape == (3, adata.n_vars)
    assert np.isfinite(trained.get_elbo())


def test_repr_names_the_model(trained, capsys):
    print(trained)
    assert "DBDiffusion" in capsys.readouterr().out


def test_state_of_the_field_names_control(trained):
    state = trained.adata_manager.get_state_registry("perturbation")
    assert state[PerturbationField.CONTROL] == "control"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"gene_likelihood": "normal"}, "gene_likelihood"),
        ({"latent_distribution": "ln"}, "simplex"),
        ({"n_folds": 1}, "n_folds"),
        ({"n_embedding": 0}, "n_embedding"),
    ],
)
def test_impossible_architectures_are_refused(options, match):
    adata = tiny_screen()
    DBDiffusion.setup_anndata(adata)
    with pytest.raises(ValueError, match=match):
        tiny_model(adata, **options)


@pytest.mark.parametrize("likelihood", ["zinb", "poisson"])
def test_other_count_likelihoods(likelihood):
    adata = tiny_screen(n_perturbations=5)
    DBDiffusion.setup_anndata(adata)
    model = train_quickly(tiny_model(adata, gene_likelihood=likelihood), 2, 2)
    assert np.isfinite(
        model.predict_effects(adata.var_names[adata.var_names.isin(model.perturbation_names)][0])["effect"]
    ).all()
