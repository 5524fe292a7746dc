from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from dbdiffusion.data import expected_log1p
from dbdiffusion.simulate._modules import Effects
from dbdiffusion.simulate._screen import population_effects
from dbdiffusion.simulate._simulation import draw_simulation

OPTIONS = {
    "mechanism": "modules",
    "n_genes": 31,
    "n_perturbations": 7,
    "n_combinations": 0,
    "n_cells_per_perturbation": 15,
    "n_control_cells": 23,
    "n_modules": 5,
    "n_batches": 2,
    "alignment": 0.5,
    "effect_size": 0.5,
    "escape": 0.2,
    "library_size": 3000.0,
    "dispersion": 4.0,
    "unchanged": 0.0,
    "n_synergies": 0,
    "synergy_size": 1.0,
}


def test_population_effects_are_nothing_where_nothing_is_shifted_and_shrink_with_escape():
    simulation, none_escapes = (draw_simulation(np.random.default_rng(3), **{**OPTIONS, "escape": e}) for e in (0.2, 0.0))
    nothing = replace(simulation.mechanism, effects=Effects(np.zeros((1, 5)), np.zeros((1, 31))))
    assert not population_effects(replace(simulation, mechanism=nothing), np.random.default_rng(0)).any()
    one, other = (population_effects(s, np.random.default_rng(0)) for s in (simulation, none_escapes))
    assert one.shape == (7, 31)
    # fewer cells that escape leave later draws as they are, but for who escaped
    np.testing.assert_allclose(one, 0.8 * other)


@pytest.mark.parametrize("dispersion", [0.5, 4.0, 100.0])
def test_expected_log1p_is_the_sum_over_counts(dispersion):
    mean, scale = np.array([0.001, 0.3, 2.0, 40.0, 400.0]), np.array([33.0, 3.0, 1.0, 0.5, 0.0])
    x = np.arange(20_000)
    expected = [
        stats.nbinom.pmf(x, dispersion, dispersion / (dispersion + m)) @ np.log1p(s * x)
        for m, s in zip(mean, scale, strict=True)
    ]
    np.testing.assert_allclose(expected_log1p(mean, scale, dispersion), expected, rtol=2e-4, atol=1e-8)


def test_expected_log1p_is_what_a_simulation_shows():
    rng = np.random.default_rng(0)
    mean, scale, dispersion = 3.0, 2.0, 4.0
    values = np.log1p(scale * rng.poisson(rng.gamma(dispersion, mean / dispersion, 200_000)))
    standard_error = values.std() / np.sqrt(len(values))
    assert abs(expected_log1p(np.array([mean]), np.array([scale]), dispersion)[0] - values.mean()) < 4 * standard_error


def test_expected_log1p_broadcasts():
    mean, scale = np.linspace(0, 3, 7)[:, None], np.linspace(0.1, 5, 4)
    whole = expected_log1p(mean, scale, 4.0)
    assert whole.shape == (7, 4)
    np.testing.assert_allclose(whole[3, 2], expected_log1p(mean[3], scale[2:3], 4.0)[0])
    assert not whole[0].any()
