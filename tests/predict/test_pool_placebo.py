import numpy as np
import pytest

from dbdiffusion.inference import PERMUTATIONS
from dbdiffusion.predict import GenerationOptions, Recipe
from dbdiffusion.predict._pool import placebo


@pytest.fixture(scope="module")
def permuted(trained):
    return placebo(trained.predictor(), Recipe(GenerationOptions()), np.arange(len(trained.predictor().screen.names)))


def test_a_permutation_is_a_row(permuted):
    assert list(permuted.columns) == ["weight", "relative_to_mean", "relative_to_zero"]
    assert len(permuted) == PERMUTATIONS >= 20
    assert (permuted["weight"] >= 0).all()
    assert permuted["weight"].nunique() > 1 or (permuted["weight"] == 0).all()


def test_what_is_permuted_says_little(permuted):
    assert permuted["weight"].mean() < 0.25  # of eleven references; a screen has more
    assert permuted[["relative_to_mean", "relative_to_zero"]].mean().min() < 1.2


def test_the_model_is_as_it_was(trained):
    before = trained.reference_predictions(n_cells=16)
    placebo(trained.predictor(), Recipe(GenerationOptions()), np.arange(5))
    trained.predictor().forget_references()
    assert before.equals(trained.reference_predictions(n_cells=16))


def test_folds_that_are_retrained_have_no_placebo(trained):
    assert placebo(trained.predictor(), Recipe(GenerationOptions(), cross_fitting="k_fold"), np.arange(5)).empty
