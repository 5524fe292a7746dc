import numpy as np

from dbdiffusion.model._answers import Way, measured_answer, pool_of, rectified_answers
from dbdiffusion.model._generate import GenerationOptions


def test_pool_is_computed_once(trained):
    way = Way("prediction", "k_fold", 32, GenerationOptions(seed=9))
    assert pool_of(trained, way) is pool_of(trained, way)
    assert pool_of(trained, Way("prediction", "k_fold", 33, GenerationOptions(seed=9))) is not pool_of(trained, way)


def test_rectified_estimate_is_the_formula(trained, unseen):
    from dbdiffusion.model._references import predictions

    way = Way("prediction", "k_fold", 64, GenerationOptions())
    answers, rectifiers = rectified_answers(trained, unseen, way)
    rectifier = rectifiers["single"]
    predicted, _ = predictions(trained, trained.module.diffusion, [(trained._space(), unseen)], way.options, 64, "k_fold")
    for row, name in enumerate(unseen):
        weighted = sum(weight * predicted[kind][row] for kind, weight in rectifier.weights.items())
        assert np.allclose(answers[name].estimate.effect, weighted + rectifier.rho * rectifier.mean_residual)
        assert answers[name].lam == rectifier.weights["generated"]


def test_measured_answer_is_the_observed_contrast(trained):
    name = trained.perturbation_names[3]
    assert np.array_equal(measured_answer(trained, name).estimate.effect, trained._screen().observed.effect[3])
