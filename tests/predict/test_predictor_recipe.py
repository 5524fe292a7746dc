import numpy as np
import pytest

from dbdiffusion.predict import GenerationOptions, Recipe


def test_equal_options_of_any_type_are_the_same_recipe():
    one = Recipe(GenerationOptions(seed=3, guidance_scale=2), lam=1, n_cells=64, shrink=np.bool_(True))
    other = Recipe(GenerationOptions(seed=np.int64(3), guidance_scale=np.float32(2)), lam=1.0, n_cells=64.0, shrink=True)
    assert one == other
    assert hash(one.options) == hash(other.options)
    assert isinstance(one.options.seed, int)


@pytest.mark.parametrize(
    "options",
    [
        {"method": "best"}, {"cross_fitting": "none"}, {"interval": "credible"}, {"fdr": "by"},
        {"n_cells": 1}, {"lam": -1}, {"confidence": 1.0}, {"lfc_threshold": -0.1}, {"shrink": "no"},
    ],
)  # fmt: skip
def test_an_option_that_cannot_be_is_refused_by_its_name(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
        Recipe(GenerationOptions(), **options)


def test_the_smallest_effect_of_interest_is_a_natural_logarithm():
    assert np.isclose(Recipe(GenerationOptions(), lfc_threshold=1.0).smallest_effect, np.log(2))


def test_steps_are_recorded_as_they_are_used():
    assert GenerationOptions(sampler="dpm++").n_steps == GenerationOptions(sampler="dpm++", n_steps=None).n_steps > 0
