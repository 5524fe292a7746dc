import numpy as np
import pytest

from dbdiffusion import simulate_screen
from dbdiffusion.simulate import knowable_effects

SMALL = {"n_genes": 80, "n_perturbations": 24, "n_modules": 5, "n_control_cells": 60, "n_cells_per_perturbation": 10}


def squared_error(one, other):
    return float(((one - other) ** 2).to_numpy().mean())


@pytest.mark.parametrize("alignment", [0.0, 0.5, 1.0])
def test_what_can_be_known_lies_between_nothing_and_all(alignment):
    truth = simulate_screen(seed=3, alignment=alignment, **SMALL).uns["true_effects"]
    best, told = (
        knowable_effects(3, alignment=alignment, told_the_draws=told, **SMALL).loc[truth.index, truth.columns]
        for told in (False, True)
    )
    assert squared_error(told, truth) < squared_error(best, truth) < squared_error(0 * truth, truth)


def test_targets_of_one_module_are_known_alike_and_alignment_helps():
    errors = []
    for alignment in (0.0, 1.0):
        truth = simulate_screen(seed=4, alignment=alignment, **SMALL).uns["true_effects"]
        best = knowable_effects(4, alignment=alignment, **SMALL)
        assert len(np.unique(best.round(12).to_numpy(), axis=0)) <= SMALL["n_modules"]
        errors.append(squared_error(best.loc[truth.index, truth.columns], truth) / squared_error(truth * 0, truth))
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("options", [{"mechanism": "network"}, {"n_combinations": 2}])
def test_other_screens_are_refused(options):
    with pytest.raises(ValueError, match="modules"):
        knowable_effects(**options)
