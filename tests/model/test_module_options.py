import numpy as np
import pytest
from tiny import tiny_model, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.model._module import check_sizes_of_model, training_options

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def untrained():
    adata = tiny_screen(n_perturbations=5)
    DBDiffusion.setup_anndata(adata)
    return tiny_model(adata)


@pytest.fixture
def untrainable(monkeypatch):
    import lightning.pytorch as pl

    def fit(*_args, **_kwargs):
        raise AssertionError("training was begun")

    monkeypatch.setattr(pl.Trainer, "fit", fit)


WIDTHS = ("n_hidden", "n_latent", "n_layers", "n_diffusion_hidden", "n_diffusion_blocks")
SIZES_THAT_CANNOT_BE = [
    *({name: value} for name in WIDTHS for value in (0, -1)),
    {"n_hidden": 1.5}, {"n_hidden": "16"}, {"n_hidden": None}, {"n_hidden": 10**9}, {"n_latent": NAN}, {"n_folds": 1},
    {"n_folds": 10**6}, {"n_embedding": 65}, {"n_embedding": [5]}, {"n_layers": 10**6}, {"dropout_rate": 1.0},
    {"dropout_rate": NAN}, {"dropout_rate": -0.1}, {"dropout_rate": "a"}, {"n_diffusion_blocks": True},
]  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES_THAT_CANNOT_BE, ids=str)
def test_no_model_is_built_of_sizes_that_cannot_be(untrained, sizes):
    with pytest.raises(ValueError, match=f"`{next(iter(sizes))}` must be"):
        tiny_model(untrained.adata, **sizes)


def test_sizes_of_any_type_are_those_of_the_model(untrained):
    model = tiny_model(untrained.adata, n_hidden=np.int64(12), n_latent=4.0)
    assert model.module.z_encoder.mean_encoder.weight.shape == (4, 12)
    assert check_sizes_of_model(np.float32(0.5), n_folds=np.int8(3)) == {"n_folds": 3, "dropout_rate": 0.5}


TRAININGS_THAT_CANNOT_BE = [
    {"max_epochs": 0}, {"max_epochs": -3}, {"max_epochs": NAN}, {"max_epochs": 1.5}, {"max_epochs": "5"}, {"batch_size": 0},
    {"batch_size": None}, {"plan_kwargs": {"lr": NAN}}, {"plan_kwargs": {"weight_decay": np.float64("nan")}},
    {"train_size": NAN}, {"train_size": 1.5}, {"gradient_clip_val": NAN},
]  # fmt: skip


@pytest.mark.parametrize("options", TRAININGS_THAT_CANNOT_BE, ids=str)
@pytest.mark.parametrize("method", ["train", "train_vae", "train_diffusion"])
def test_no_training_begins_with_options_that_cannot_be(untrained, untrainable, options, method):
    with pytest.raises(ValueError, match="must be"):
        getattr(untrained, method)(**options)


def test_both_stages_are_looked_at_before_the_first_begins(untrained, untrainable):
    with pytest.raises(ValueError, match="`max_epochs_diffusion` must be a whole number"):
        untrained.train(max_epochs=5, max_epochs_diffusion=0)
    with pytest.raises(ValueError, match="batch_size"):
        untrained.train(diffusion_kwargs={"batch_size": 0})
    with pytest.raises(TypeError, match="dictionary"):
        untrained.train(vae_kwargs={"plan_kwargs": 3})


def test_folds_are_not_retrained_with_options_that_cannot_be(trained, untrainable):
    for options in ({"max_epochs": 0}, {"batch_size": 0}, {"seed": -1}, {"plan_kwargs": {"lr": NAN}}):
        with pytest.raises(ValueError, match="must be"):
            trained.cross_fit(**options)
    assert trained.cross_fit_ is not None
    assert training_options(np.int64(3), 5.0) == (3, 5)
    assert training_options() == (None, 1)


QUESTIONS_THAT_CANNOT_BE = [
    {"confidence": NAN}, {"confidence": 0}, {"confidence": 1}, {"confidence": "95"}, {"n_cells": 1}, {"n_cells": NAN},
    {"n_cells": "a"}, {"n_cells": None}, {"guidance_scale": 1e38}, {"guidance_scale": NAN}, {"guidance_scale": -1},
    {"guidance_scale": None}, {"n_steps": 0}, {"n_steps": 1}, {"n_steps": 2.5}, {"n_steps": "a"}, {"n_steps": 10**6},
    {"seed": -1}, {"seed": 0.5}, {"seed": None}, {"lam": NAN}, {"lam": -1}, {"lam": INF}, {"lfc_threshold": NAN},
    {"lfc_threshold": -1}, {"fdr": "none"}, {"fdr": None}, {"shrink": "no"}, {"method": 3}, {"interval": ["mean"]},
    {"sampler": None}, {"cross_fitting": None}, {"batch": "nowhere"}, {"covariates": 3},
]  # fmt: skip


@pytest.mark.parametrize("options", QUESTIONS_THAT_CANNOT_BE, ids=str)
def test_no_question_is_answered_with_options_that_cannot_be(trained, unseen, options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}"):
        trained.predict_effects(unseen, **options)
    if set(options) <= {"guidance_scale", "n_steps", "seed", "sampler", "batch", "covariates"}:
        with pytest.raises(ValueError, match=f"`{next(iter(options))}"):
            trained.generate(unseen, **options)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("calibration", {"levels": [NAN]}),
        ("calibration", {"levels": "0.5"}),
        ("calibration", {"levels": 0.5}),
        ("calibration", {"n_cells": 0}),
        ("null_calibration", {"n_splits": 0}),
        ("null_calibration", {"n_cells": "a"}),
        ("null_calibration", {"seed": -1}),
        ("reference_predictions", {"n_cells": NAN}),
        ("observed_effects", {"confidence": NAN}),
    ],
)
def test_nor_any_other(trained, method, options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
        getattr(trained, method)(**options)


def test_the_most_guidance_gives_finite_cells(trained, unseen):
    assert np.isfinite(trained.generate(unseen, n_cells=20, guidance_scale=100).X.toarray()).all()


@pytest.mark.parametrize("name", ["epochs", "n_epochs"])
@pytest.mark.parametrize("method", ["train", "train_vae", "train_diffusion"])
def test_epochs_by_the_name_of_other_packages_are_refused_in_words(untrained, untrainable, name, method):
    with pytest.raises(TypeError, match=f"`{name}` is no option.*`max_epochs`"):
        getattr(untrained, method)(**{name: 3})
