"""Training: rows 2, 3, 10, 15, 21, 22, 28, 29, 32, 34, 37, 38, 41 to 43, 51 and the knobs of the trainer, in both stages."""

import lightning.pytorch as pl
import numpy as np
import pytest
import scvi
import torch
from dressed import briefly, dressed_screen, fresh
from lightning.pytorch.loggers import CSVLogger
from scvi.train import SaveCheckpoint
from tiny import QUIET, tiny_model

from dbdiffusion import DBDiffusion


@pytest.fixture
def model():
    return fresh()


@pytest.fixture
def stage_one(model):
    model.train_vae(max_epochs=1, **QUIET)
    return model


def test_row_02_losses_of_training_and_validation_are_logged(dressed):
    assert {"elbo_train", "elbo_validation", "diffusion_train_loss", "diffusion_validation_loss"} <= set(dressed.history)
    assert all(frame.shape[1] == 1 and len(frame) for frame in dressed.history.values())


def test_row_03_a_second_training_lengthens_the_history(stage_one):
    stage_one.train_vae(max_epochs=1, **QUIET)
    assert len(stage_one.history["elbo_train"]) == 2


@pytest.mark.parametrize("likelihood", ["nb", "zinb", "poisson"])
def test_row_10_every_likelihood_of_counts_trains_and_generates(likelihood):
    model = briefly(fresh(gene_likelihood=likelihood))
    cells = model.generate(model.perturbation_names[0], n_cells=3)
    assert (cells.X.toarray() == np.round(cells.X.toarray())).all()
    assert np.isfinite(model.differential_expression_ppi(model.perturbation_names[0])["effect"]).all()


def test_row_10_normal_likelihood_is_refused():
    with pytest.raises(ValueError, match="need counts"):
        fresh(gene_likelihood="normal")


class Counter(pl.Callback):
    def __init__(self):
        self.n_epochs = 0

    def on_train_epoch_end(self, trainer, pl_module):
        self.n_epochs += 1


def test_row_15_callbacks_run_in_both_stages_and_the_users_list_stays(model):
    callbacks = [Counter()]
    briefly(model, callbacks=callbacks)
    assert callbacks[0].n_epochs == 2
    assert len(callbacks) == 1


def test_row_15_the_learning_rate_is_in_the_history(model):
    model.train_vae(
        max_epochs=2,
        check_val_every_n_epoch=1,
        plan_kwargs={"reduce_lr_on_plateau": True, "lr_scheduler_metric": "elbo_train"},
        **QUIET,
    )
    assert "lr-Adam" in model.history


def test_row_21_early_stopping_needs_validation_cells(model):
    with pytest.raises(ValueError, match="validation"):
        model.train_vae(max_epochs=1, train_size=1.0, early_stopping=True, **QUIET)


def test_row_22_a_last_batch_of_one_cell_can_be_dropped():
    adata = dressed_screen()
    options = {"max_epochs": 1, "train_size": 1.0, "early_stopping": False, "batch_size": adata.n_obs - 1, **QUIET}
    with pytest.raises(ValueError, match="more than 1 value"), pytest.warns(UserWarning, match="small size"):
        fresh(adata).train_vae(**options)
    model = fresh(adata)
    model.train_vae(**options, datasplitter_kwargs={"drop_last": True})
    model.train_diffusion(max_epochs=1, batch_size=adata.n_obs - 1, **QUIET)
    assert model.is_diffusion_trained_


@pytest.mark.parametrize("patience", [1, 3])
def test_row_28_early_stopping_stops_either_stage(model, patience):
    options = {"early_stopping": True, "early_stopping_patience": patience, "early_stopping_min_delta": 1e9, **QUIET}
    model.train_vae(max_epochs=30, early_stopping_warmup_epochs=0, **options)
    model.train_diffusion(max_epochs=30, **options)
    for loss in ("elbo_validation", "diffusion_validation_loss"):
        assert patience <= len(model.history[loss]) <= patience + 2


@pytest.mark.parametrize("dispersion", ["gene", "gene-batch", "gene-label", "gene-cell"])
def test_row_29_every_dispersion_trains_and_generates(dispersion):
    model = briefly(fresh(setup={"batch_key": "batch", "labels_key": "lane"}, dispersion=dispersion))
    assert model.generate(model.perturbation_names[0], n_cells=3).n_obs == 3


def test_row_32_the_same_seed_gives_the_same_weights():
    first, second = (briefly(fresh()).module.state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_row_34_cells_are_split_as_asked(model):
    n = model.adata.n_obs
    split = [np.arange(20, n), np.arange(10, 20), np.arange(10)]
    model.train_vae(max_epochs=1, datasplitter_kwargs={"external_indexing": split}, **QUIET)
    model.train_diffusion(max_epochs=1, **QUIET)
    for name, rows in zip(("train_indices", "validation_indices", "test_indices"), split, strict=True):
        assert np.array_equal(np.sort(getattr(model, name)), rows)
    with pytest.raises(ValueError, match=r"[Oo]verlap"):
        model.train_vae(max_epochs=1, datasplitter_kwargs={"external_indexing": [np.arange(n), np.arange(9)]}, **QUIET)


@pytest.mark.slow
def test_row_37_loaders_with_workers(model, monkeypatch):
    monkeypatch.setattr(scvi.settings, "dl_num_workers", 1)
    model.train_vae(max_epochs=1, datasplitter_kwargs={"persistent_workers": True}, **QUIET)
    assert model.get_latent_representation().shape == (model.adata.n_obs, 5)


def test_row_38_metrics_on_every_step(model):
    model.train_vae(max_epochs=1, plan_kwargs={"on_step": True, "on_epoch": True}, log_every_n_steps=1, **QUIET)
    assert any(name.startswith("train_loss") for name in model.history)


def test_row_41_checkpoints_of_stage_two(stage_one, tmp_path):
    best = SaveCheckpoint(dirpath=str(tmp_path), filename="{epoch}", monitor="validation_loss", load_best_on_end=True)
    vae = {name: value.clone() for name, value in stage_one.module.state_dict().items() if "diffusion" not in name}
    stage_one.train_diffusion(max_epochs=2, callbacks=[best], check_val_every_n_epoch=1, enable_checkpointing=True, **QUIET)
    assert stage_one.is_diffusion_trained_
    assert not stage_one.module.training
    loaded = DBDiffusion.load(best.best_model_path, adata=False)
    for name, value in loaded.module.state_dict().items():
        if not name.endswith("is_fitted"):
            assert torch.equal(value, stage_one.module.state_dict()[name]), name
    assert all(torch.equal(value, stage_one.module.state_dict()[name]) for name, value in vae.items())


def test_row_42_lightnings_own_checkpoints_resume_stage_two(stage_one, tmp_path, monkeypatch):
    keep = pl.callbacks.ModelCheckpoint(dirpath=tmp_path, save_last=True, save_top_k=0)
    monkeypatch.setattr(scvi.settings, "logging_dir", str(tmp_path))
    stage_one.train_diffusion(max_epochs=1, callbacks=[keep], enable_checkpointing=True, **QUIET)
    once = len(stage_one.history["diffusion_train_loss"])
    stage_one.train_diffusion(max_epochs=2, ckpt_path=str(tmp_path / "last.ckpt"), **QUIET)
    assert len(stage_one.history["diffusion_train_loss"]) == once + 1


def test_row_43_the_plan_of_stage_one_is_scvis(model):
    model.train_vae(max_epochs=3, plan_kwargs={"n_epochs_kl_warmup": 2, "lr": 1e-3}, log_every_n_steps=1, **QUIET)
    assert np.allclose(np.unique(model.history["kl_weight"].to_numpy(dtype=float)), [0, 0.5, 1])


def test_plan_arguments_of_stage_two(stage_one):
    plan_kwargs = {"lr": 1e-3, "weight_decay": 0.0, "condition_dropout": 0.5, "ema_decay": 0.5}
    stage_one.train_diffusion(max_epochs=1, plan_kwargs=plan_kwargs, **QUIET)
    with pytest.raises(ValueError, match="condition_dropout"):
        stage_one.train_diffusion(max_epochs=1, plan_kwargs={"condition_dropout": 2}, **QUIET)


@pytest.mark.parametrize(("accelerator", "devices"), [("cpu", 1), ("auto", "auto"), ("cpu", "1")])
def test_accelerators_and_devices(model, accelerator, devices):
    briefly(model, accelerator=accelerator, devices=devices)
    assert model.is_diffusion_trained_


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "no accelerator"])
def test_an_accelerator_that_is_not_there_is_named(stage_one, accelerator):
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    with pytest.raises((MisconfigurationException, ValueError), match=r"gpu|cuda|CUDA|accelerator"):
        stage_one.train_diffusion(max_epochs=1, accelerator=accelerator, **QUIET)
    assert stage_one.get_latent_representation().shape == (stage_one.adata.n_obs, 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_gives_the_observed_effects_and_finite_cells(model):
    briefly(model, accelerator="gpu", devices=1)
    assert model.generate(model.perturbation_names[0], n_cells=3).n_obs == 3


def test_another_logger_is_written_and_the_first_history_stays(stage_one, tmp_path):
    stage_one.train_diffusion(max_epochs=1, logger=CSVLogger(tmp_path), log_every_n_steps=1, **QUIET)
    assert "train_loss" in next(tmp_path.rglob("metrics.csv")).read_text()
    assert "elbo_train" in stage_one.history
    assert stage_one.is_diffusion_trained_


@pytest.mark.parametrize("style", ["tqdm", "rich"])
def test_progress_bars_of_both_styles(model, monkeypatch, style):
    monkeypatch.setattr(scvi.settings, "progress_bar_style", style)
    model.train(max_epochs=1, max_epochs_diffusion=1)
    assert model.is_diffusion_trained_


def test_a_tuner_finds_a_metric_of_stage_two_alone(model):
    """What ``scvi.autotune`` passes to ``train`` and reads after every validation."""
    seen = []

    class Report(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            seen.append(trainer.callback_metrics.get("diffusion_validation_loss"))

    briefly(model, accelerator="auto", devices="auto", check_val_every_n_epoch=1, callbacks=[Report()], logger=True)
    assert seen[0] is None
    assert torch.isfinite(seen[-1])


@pytest.mark.slow
def test_row_51_autotune_of_a_diffusion_hyperparameter(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed (`pip install scvi-tools[autotune]`)")
    pytest.importorskip("scib_metrics", reason="scib-metrics is not installed (`pip install scvi-tools[autotune]`)")
    from ray import tune
    from scvi.autotune import run_autotune

    adata = dressed_screen()
    del adata.uns["true_effects"]
    DBDiffusion.setup_anndata(adata)
    experiment = run_autotune(
        DBDiffusion,
        adata,
        metrics="diffusion_validation_loss",
        mode="min",
        search_space={
            "model_params": {"n_diffusion_hidden": tune.choice([8, 16]), "n_hidden": 8, "n_latent": 3},
            "train_params": {"max_epochs": 1, "max_epochs_diffusion": 1},
        },
        num_samples=1,
        searcher="random",
        scheduler="fifo",
        seed=0,
        logging_dir=str(tmp_path),
        ignore_reinit_error=True,
    )
    assert np.isfinite(experiment.result_grid[0].metrics["diffusion_validation_loss"])


def test_two_models_of_one_seed_differ_if_built_one_after_the_other():
    adata = dressed_screen()
    DBDiffusion.setup_anndata(adata)
    scvi.settings.seed = 0
    first, second = tiny_model(adata), tiny_model(adata)
    assert not torch.equal(*(model.module.diffusion.denoiser.network.inlet.weight for model in (first, second)))
