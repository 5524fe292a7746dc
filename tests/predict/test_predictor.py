"""Predictors without a model: a screen, a space, and a decoder that is no VAE."""

import gc
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from dbdiffusion.diffusion import LatentDiffusion
from dbdiffusion.embedding import LeftOutSpaces, fit_space
from dbdiffusion.predict import Conditions, GenerationOptions, Generator, Predictor, Recipe

P, E, D = 13, 4, 3


@dataclass(frozen=True)
class Linear:
    """Expression is linear in the latents."""

    weight: torch.Tensor

    def differences(self, z, matched):
        return lambda others: self.expected(others, matched) - self.expected(z, matched)

    def expected(self, z, matched):
        return (z @ self.weight).exp().mul(matched.scale * 0.01).log1p()

    def sample(self, z, matched, generator):
        return torch.poisson((z @ self.weight).exp(), generator=generator)


def predictor_of(screen, vectors=None):
    torch.manual_seed(0)
    diffusion = LatentDiffusion(D, E, n_hidden=8, n_blocks=1)
    left_out = LeftOutSpaces(screen, E, screen.left_out, vectors, "auto", None)
    space = fit_space(screen.names, screen.observed, screen.genes, E, left_out.ranking(), vectors, screen.separator)
    decoder = Linear(torch.randn(D, len(screen.var_names)) * 0.3)
    return Predictor(screen, space, left_out, Generator(decoder, diffusion, screen, Conditions(E)))


@pytest.fixture(scope="module")
def predictor(trained):
    """The screen of a trained model, but nothing else of it."""
    return predictor_of(trained.predictor().screen)


def held():
    """Living things of the package, by kind."""
    return Counter(type(thing).__name__ for thing in gc.get_objects() if str(type(thing).__module__).startswith("dbdiffusion."))


def test_it_answers_without_any_model(predictor, unseen):
    names = [*unseen, predictor.screen.names[0]]
    table = predictor.effects(names, Recipe(GenerationOptions(), n_cells=16))
    assert table["target"].tolist() == np.repeat(names, len(predictor.screen.var_names)).tolist()
    assert np.isfinite(table[["effect", "se", "ci_low", "p_value"]]).all(axis=None)
    assert table.attrs["n_cells"] == 16
    assert table.attrs["sampler"] == "dpm++"


@pytest.mark.filterwarnings("ignore::dbdiffusion.predict.NotToldApartWarning")  # the vectors mean nothing
def test_an_answer_leaves_nothing_behind(trained):
    """Things that hold each other live until garbage is collected: a genome with vectors of its own grew by 20 MB a block."""
    screen = trained.predictor().screen
    names = [*screen.names, *(f"NEW{i}" for i in range(30))]
    vectors = pd.DataFrame(np.random.default_rng(0).standard_normal((len(names), 5)), index=names)
    predictor, recipe = predictor_of(screen, vectors), Recipe(GenerationOptions(), n_cells=8, lam=1.0)
    predictor.effects(names[-10:], recipe)
    gc.collect()
    gc.disable()
    try:
        before = held()
        for start in range(-30, -10, 10):
            predictor.effects(names[start : start + 10], recipe)
        after = held()
    finally:
        gc.enable()
    assert after == before


def test_a_generator_that_knows_nothing_has_little_weight(predictor, unseen):
    table = predictor.effects(unseen, Recipe(GenerationOptions(), n_cells=16))
    assert table.attrs["weights"]["single"]["generated"] < 0.3


def test_references_are_kept_until_the_next_recipe(predictor):
    recipe = Recipe(GenerationOptions(seed=9), n_cells=8)
    pool = predictor.references(recipe)
    assert predictor.references(Recipe(GenerationOptions(seed=9), n_cells=8, confidence=0.5, lam=0.3)) is pool
    assert predictor.references(Recipe(GenerationOptions(seed=9), n_cells=9)) is not pool
    assert predictor.references(recipe) is not pool


def test_the_table_of_references_is_the_pool(predictor):
    recipe = Recipe(GenerationOptions(), n_cells=8)
    table, pool = predictor.reference_table(recipe), predictor.references(recipe)
    one = table[table["target"] == pool.names[2]]
    for name, values in pool.predicted.items():
        np.testing.assert_array_equal(one[name], values[2])
    assert one["variable"].tolist() == list(predictor.screen.var_names)


def test_baselines_are_the_mean_and_nothing(predictor, unseen):
    baselines = predictor.baselines(unseen[0])
    np.testing.assert_array_equal(baselines["mean"], predictor.screen.observed.effect.mean(axis=0))
    assert not baselines["zero"].any()
    assert not np.allclose(baselines["ridge"], baselines["mean"])
    np.testing.assert_array_equal(predictor.baselines(predictor.screen.names[0])["ridge"], baselines["mean"])


def test_what_nothing_places_is_refused_before_anything_is_generated(predictor, monkeypatch):
    monkeypatch.setattr(Generator, "effects", lambda *_args, **_options: pytest.fail("generated"))
    with pytest.raises(KeyError, match="NOWHERE"):
        predictor.effects(["NOWHERE"], Recipe(GenerationOptions()))


def test_calibration_judges_every_reference(predictor):
    calibration = predictor.calibration(Recipe(GenerationOptions(), n_cells=8), (0.5, 0.9))
    assert isinstance(calibration.pit, pd.DataFrame)
    assert calibration.pit.index.tolist() == list(predictor.screen.names)
