import pytest
from tiny import QUIET, screen_in_two_contexts, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.predict import GenerationOptions, Recipe


def briefly_trained(adata, **setup):
    DBDiffusion.setup_anndata(adata, batch_key="batch", **setup)
    model = tiny_model(adata)
    model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET)
    return model


@pytest.fixture
def model():
    return briefly_trained(tiny_screen(n_perturbations=5))


CHANGES = {
    "training": lambda model: model.train_diffusion(max_epochs=1, **QUIET),
    "training of the VAE": lambda model: model.train_vae(max_epochs=1, **QUIET),
    "strategy": lambda model: model.set_strategy("knn"),
    "folds": lambda model: model.leave_out_folds(),
}
QUESTIONS = {
    "effects": lambda predictor: predictor.effects(predictor.screen.names[:1], Recipe(GenerationOptions())),
    "references": lambda predictor: predictor.references(Recipe(GenerationOptions(), n_cells=8)),
    "calibration": lambda predictor: predictor.calibration(Recipe(GenerationOptions(), n_cells=8), (0.5,)),
    "baselines": lambda predictor: predictor.baselines(predictor.screen.names[0]),
}


def test_the_same_predictor_answers_until_the_model_changes(model):
    assert model.predictor() is model.predictor()


@pytest.mark.parametrize("change", CHANGES)
def test_a_kept_predictor_of_a_changed_model_answers_nothing(model, change):
    kept = model.predictor()
    CHANGES[change](model)
    for question in QUESTIONS.values():
        with pytest.raises(RuntimeError, match=r"since this predictor was made.*model\.predictor\(\)"):
            question(kept)


def test_after_a_training_the_predictor_is_new_and_answers(model):
    before = model.predictor()
    model.train_diffusion(max_epochs=1, **QUIET)
    after = model.predictor()
    assert after is not before
    assert len(after.effects(after.screen.names[:2], Recipe(GenerationOptions()))) == 2 * model.adata.n_vars


def test_a_failed_training_leaves_predictors_that_say_so(model):
    kept = model.predictor()
    with pytest.raises(ValueError, match="lr"):
        model.train_diffusion(max_epochs=1, plan_kwargs={"lr": float("nan")}, **QUIET)
    assert model.predictor() is kept  # refused before anything was done


def test_retrained_folds_come_in_without_making_the_space_anew(model):
    before = model.predictor()
    assert before.retrained == ()
    with pytest.raises(RuntimeError, match="cross_fit"):
        before.references(Recipe(GenerationOptions(), cross_fitting="k_fold"))
    model.cross_fit(max_epochs=1)
    after = model.predictor()
    assert after.space is before.space
    rows = sorted(row for fold in after.retrained for row in fold.rows)
    assert rows == list(range(len(after.screen.names)))


def test_each_context_has_a_predictor_on_the_same_axes_and_with_its_own_screen():
    model = briefly_trained(screen_in_two_contexts(), context_key="time")
    early, late = (model.predictor(name) for name in model.contexts)
    assert early.space.effects is late.space.effects
    assert early.screen.observed is not late.screen.observed
    assert model.in_context("late").predictor() is late
    assert model.predictor() is not early
    with pytest.raises(ValueError, match=r"`context` must be one of .*Did you mean"):
        model.predictor("latr")
    with pytest.raises(ValueError, match="'late' here, got 'early'"):
        model.in_context("late").predictor("early")


def test_a_model_without_contexts_or_training_says_so(model):
    with pytest.raises(ValueError, match="context_key"):
        model.predictor("early")
    adata = tiny_screen(n_perturbations=4)
    DBDiffusion.setup_anndata(adata)
    with pytest.raises(RuntimeError, match="train_vae"):
        tiny_model(adata).predictor()
