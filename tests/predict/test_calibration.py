import numpy as np
import pytest

from dbdiffusion.predict import GenerationOptions, Recipe
from dbdiffusion.predict._calibration import _check_levels, calibrate

RECIPE = Recipe(GenerationOptions(), n_cells=16)


def test_wider_intervals_hold_more(trained):
    table = calibrate(trained.predictor(), RECIPE, (0.3, 0.6, 0.9)).table
    assert (table["coverage"].diff().dropna() >= 0).all()
    assert (table["width"].diff().dropna() > 0).all()


def test_intervals_of_no_effect_are_those_of_a_fit_without_predictors(trained):
    table = calibrate(trained.predictor(), RECIPE, (0.9,)).table
    assert np.isfinite(table.filter(regex="_(mean|zero)$")).all(axis=None)
    assert (table["width_zero"] != table["width_mean"]).all()


@pytest.mark.parametrize("levels", ["0.5", 0.5, None, [], [float("nan")], [1]])
def test_levels_are_numbers_between_zero_and_one(levels):
    with pytest.raises(ValueError, match="levels"):
        _check_levels(levels)
