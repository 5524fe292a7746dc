import numpy as np
import pytest

from dbdiffusion.model._answers import Way, measured_answers, pool_of, rectified_answers, shrunk_answers
from dbdiffusion.model._generate import GenerationOptions
from dbdiffusion.model._references import predictions


def test_pool_is_computed_once(trained):
    way = Way(GenerationOptions(seed=9), cross_fitting="k_fold", n_cells=32)
    assert pool_of(trained, way) is pool_of(trained, way)
    assert pool_of(trained, Way(GenerationOptions(seed=9), cross_fitting="k_fold", n_cells=33)) is not pool_of(trained, way)


@pytest.mark.parametrize("reference_set", ["all", "neighbours"])
def test_rectified_estimate_is_the_formula(trained, unseen, reference_set):
    way = Way(GenerationOptions(), cross_fitting="k_fold", n_cells=64, reference_set=reference_set)
    answers, fits = rectified_answers(trained, unseen, way)
    rectifier = fits["single"].rectifier
    predicted, _ = predictions(trained, trained.module.diffusion, [(trained._space(), unseen)], way.options, 64, "k_fold")
    for row, name in enumerate(unseen):
        weighted = sum(weight * predicted[kind][row] for kind, weight in rectifier.weights.items())
        if reference_set == "all":
            assert np.allclose(answers[name].estimate.effect, weighted + rectifier.rho * rectifier.residual.mean(axis=0))
        assert answers[name].lam == rectifier.weights["generated"]
        assert answers[name].n_reference <= rectifier.n_reference


def test_measured_answer_is_the_observed_contrast(trained):
    names = [trained.perturbation_names[row] for row in (3, 1)]
    for row, answer in zip((3, 1), measured_answers(trained, names).values(), strict=True):
        assert np.array_equal(answer.estimate.effect, trained._screen().observed.effect[row])


def test_shrinkage_moves_towards_the_prediction_and_leaves_own_genes(trained):
    names = trained.perturbation_names[:4]
    plain, shrunk = measured_answers(trained, names), shrunk_answers(trained, names, Way(GenerationOptions(), n_cells=64))
    for name in names:
        own = trained._space().own_genes(name)
        before, after = plain[name].estimate, shrunk[name].estimate
        assert np.array_equal(after.effect[own], before.effect[own])
        assert not np.allclose(after.effect, before.effect)
        assert after.se.mean() < before.se.mean()
        assert shrunk[name].n_reference == len(trained.perturbation_names) - 1
