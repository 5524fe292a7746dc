import numpy as np

from dbdiffusion.predict import GenerationOptions, Recipe
from dbdiffusion.predict._answers import measured_answers, rectified_answers, shrunk_answers
from dbdiffusion.predict._pool import predictions


def test_rectified_estimate_is_the_formula(trained, unseen):
    recipe = Recipe(GenerationOptions(), cross_fitting="k_fold", n_cells=64)
    predictor = trained.predictor()
    answers, fits = rectified_answers(predictor, unseen, recipe)
    rectifier = fits["single"].rectifier
    raw, _ = predictions(predictor, predictor.generator, [(predictor.space, unseen)], recipe)
    predicted = fits["single"].references.of_targets(raw)
    for row, name in enumerate(unseen):
        weighted = sum(weight * predicted[kind][row] for kind, weight in rectifier.weights.items())
        assert np.allclose(answers[name].estimate.effect, weighted + rectifier.rho * rectifier.residual.mean(axis=0))
        assert answers[name].lam == rectifier.weights["generated"]
        assert answers[name].n_reference == rectifier.n_reference


def test_no_cell_is_generated_of_targets_where_the_generated_mean_has_no_weight(trained, unseen, monkeypatch):
    predictor = trained.predictor()
    without = Recipe(GenerationOptions(), n_cells=64, lam=0.0)
    predictor.references(without)
    asked = []
    effects = type(predictor.generator).effects
    monkeypatch.setattr(type(predictor.generator), "effects", lambda *args: asked.append(args) or effects(*args))
    answers, fits = rectified_answers(predictor, unseen, without)
    assert not asked
    predicted, noise = predictor.predicted(unseen, without)  # all the same, had they been generated
    assert asked
    expected = fits["single"].rectifier.estimate(predicted, 0 * noise, without.interval)
    for row, name in enumerate(unseen):
        assert np.array_equal(answers[name].estimate.effect, expected.effect[row])
    other = Recipe(GenerationOptions(seed=1), n_cells=64, lam=0.5)
    predictor.references(other)
    asked.clear()
    rectified_answers(predictor, unseen, other)
    assert asked


def test_measured_answer_is_the_observed_contrast(trained):
    names = [trained.perturbation_names[row] for row in (3, 1)]
    for row, answer in zip((3, 1), measured_answers(trained.predictor(), names).values(), strict=True):
        assert np.array_equal(answer.estimate.effect, trained.predictor().screen.observed.effect[row])


def test_shrinkage_moves_towards_the_prediction_and_leaves_own_genes(trained):
    names = trained.perturbation_names[:4]
    predictor = trained.predictor()
    plain = measured_answers(predictor, names)
    shrunk = shrunk_answers(predictor, names, Recipe(GenerationOptions(), n_cells=64))
    for name in names:
        own = predictor.space.own_genes(name)
        before, after = plain[name].estimate, shrunk[name].estimate
        assert np.array_equal(after.effect[own], before.effect[own])
        assert not np.allclose(after.effect, before.effect)
        assert after.se.mean() < before.se.mean()
        assert shrunk[name].n_reference == len(trained.perturbation_names) - 1
