import numpy as np
import pytest

from dbdiffusion import simulate_screen

SMALL = {"n_genes": 31, "n_perturbations": 7, "n_cells_per_perturbation": 15, "n_control_cells": 23}
NETWORK = {**SMALL, "mechanism": "network"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alignment": 1.1}, r"`alignment`.*1\.1"),
        ({"alignment": -0.1}, "`alignment`"),
        ({"escape": 2.0}, r"`escape`.*2\.0"),
        ({"alignment": float("nan")}, "`alignment`"),
        ({"n_perturbations": 32}, r"`n_perturbations`.*n_genes=31.*32"),
        ({"n_perturbations": 0}, "`n_perturbations`"),
        ({"n_perturbations": 2.5}, r"`n_perturbations`.*2\.5"),
        ({"n_combinations": 22}, "`n_combinations`=22"),
        ({"n_combinations": -1}, "`n_combinations`.*-1"),
        ({"n_modules": 0}, "`n_modules`.*0"),
        ({"n_batches": 1.0}, r"`n_batches`.*1\.0"),
        ({"library_size": 0}, "`library_size`.*above 0.*0"),
        ({"dispersion": -1.0}, r"`dispersion`.*-1\.0"),
        ({"effect_size": np.inf}, "`effect_size`.*inf"),
        ({"mechanism": "magic"}, r"`mechanism`.*'modules', 'network'.*'magic'"),
        ({"mechanism": None}, "`mechanism`.*None"),
        ({"unchanged": 1.2}, r"`unchanged`.*1\.2"),
        ({"unchanged": 0.8}, r"`unchanged`=0\.8.*n_genes=31 leaves 6 genes"),
        ({"n_combinations": 3, "n_synergies": 4}, "`n_synergies`.*n_combinations=3.*4"),
        ({"n_combinations": 3, "n_synergies": -1}, "`n_synergies`.*-1"),
        ({"n_combinations": 3, "n_synergies": 1, "synergy_size": np.nan}, "`synergy_size`.*nan"),
        ({"out_degree": 5}, "`out_degree` belongs to mechanism='network'.*'modules'.*5"),
        ({"n_regulators": 9}, "`n_regulators` belongs to mechanism='network'"),
        ({"measured_targets": 0.5}, "`measured_targets` belongs to mechanism='network'"),
    ],
)
def test_impossible_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        simulate_screen(**{**SMALL, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alignment": 0.5}, "`alignment` belongs to mechanism='modules'.*'network'"),
        ({"n_modules": 5}, "`n_modules` belongs"),
        ({"unchanged": 0.5}, "`unchanged` belongs"),
        ({"n_combinations": 3, "n_synergies": 1}, "`n_synergies` belongs"),
        ({"synergy_size": 2.0}, "`synergy_size` belongs"),
        ({"measured_targets": -0.1}, r"`measured_targets`.*-0\.1"),
        ({"out_degree": -1}, "`out_degree`.*-1"),
        ({"out_degree": np.inf}, "`out_degree`.*inf"),
        ({"n_regulators": 6}, "`n_regulators`.*n_perturbations=7.*6"),
        ({"n_regulators": 28}, "`n_regulators`.*n_genes=31.*28"),
        ({"n_regulators": 8.5}, r"`n_regulators`.*8\.5"),
        ({"n_perturbations": 30}, "`n_regulators`.*n_perturbations=30.*30"),
    ],
)
def test_impossible_networks_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        simulate_screen(**{**NETWORK, **changes})


@pytest.mark.parametrize(
    "options",
    [
        {"n_genes": np.int64(31), "effect_size": 0},
        {"n_combinations": 21, "n_synergies": 21},
        {"unchanged": 21 / 31},
        {"n_perturbations": 31},
        {"n_perturbations": 1},
        {"mechanism": "network", "n_regulators": 27},
        {"mechanism": "network", "n_perturbations": 1, "n_regulators": 1},
        {"mechanism": "network", "out_degree": 1000},
        {"mechanism": "network", "out_degree": 0, "measured_targets": 0.0},
        {"mechanism": "network", "n_genes": 3, "n_perturbations": 2},
    ],
)
def test_extremes_that_can_be_meant_make_a_screen(options):
    adata = simulate_screen(**{**SMALL, **options})
    assert np.isfinite(adata.uns["true_effects"].to_numpy()).all()
    assert adata.n_vars == {**SMALL, **options}["n_genes"]
