import numpy as np
from tiny import screen_in_two_contexts, tiny_model

from dbdiffusion import DBDiffusion
from dbdiffusion.model._context import ContextView
from dbdiffusion.model._questions import Questions


def test_a_model_and_a_context_of_it_can_be_asked_the_same():
    asked = {name for name in dir(Questions) if not name.startswith("_")}
    assert {"predict_effects", "generate", "calibration", "embedding_scores", "baseline_effects"} <= asked
    for owner in (DBDiffusion, ContextView):
        assert all(getattr(owner, name) is not None for name in asked)


def test_small_questions_are_those_of_the_predictor(trained, unseen):
    predictor = trained.predictor()
    assert trained.embedding_scores().equals(predictor.left_out.scores())
    assert trained.strategy_of(unseen[0]) == predictor.space.strategy_of(unseen[0])
    assert trained.parts_of(f"{unseen[0]}+{unseen[1]}") == tuple(unseen)
    for name, values in trained.baseline_effects(unseen[0]).items():
        np.testing.assert_array_equal(values, predictor.baselines(unseen[0])[name])
    table = trained.perturbation_embeddings()
    np.testing.assert_array_equal(table.loc["control"], predictor.space.control)


def test_in_a_context_control_varies_as_there():
    adata = screen_in_two_contexts()
    DBDiffusion.setup_anndata(adata, context_key="time")
    model = tiny_model(adata)
    model.train(max_epochs=1, max_epochs_diffusion=1, enable_progress_bar=False)
    early, late = (model.in_context(name).control_variance() for name in model.contexts)
    assert not np.allclose(early, late)
