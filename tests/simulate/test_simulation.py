import numpy as np

from dbdiffusion.simulate._simulation import OWN, SHARED, draw_simulation

SHARED_OPTIONS = {
    "n_genes": 53,
    "n_perturbations": 7,
    "n_combinations": 3,
    "effect_size": 0.5,
    "n_cells_per_perturbation": 400,
    "n_control_cells": 900,
    "n_batches": 3,
    "escape": 0.25,
    "library_size": 2000.0,
    "dispersion": 4.0,
}
OWN_OPTIONS = {
    "n_modules": 5,
    "alignment": 1.0,
    "unchanged": 0.0,
    "n_synergies": 1,
    "synergy_size": 1.0,
    "n_regulators": None,
    "out_degree": 5.0,
    "measured_targets": 1.0,
}


def test_cells_libraries_and_batches_follow_the_same_law_in_every_mechanism():
    for mechanism in OWN:
        drawn = draw_simulation(np.random.default_rng(0), mechanism, **SHARED_OPTIONS, **OWN_OPTIONS)
        sizes = drawn.cells["code"].value_counts()
        assert sizes[0] == 900
        assert len(sizes) == 1 + 7 + 3 == 1 + len(drawn.mechanism.names) == 1 + drawn.mechanism.n_perturbations
        assert abs(np.median(sizes.drop(0)) - 400) < 120
        assert abs(drawn.cells.query("code > 0")["escaped"].mean() - 0.25) < 0.03
        assert not drawn.cells.query("code == 0")["escaped"].any()
        assert abs(np.exp(np.median(drawn.log_library)) - 2000) < 50
        assert drawn.batch_shift.shape == (3, 53)


def test_every_option_belongs_somewhere():
    assert set(OWN_OPTIONS) == {name for names in OWN.values() for name in names}
    assert set(SHARED) <= set(SHARED_OPTIONS)


def test_shares_of_control_cells_do_not_depend_on_their_neighbours():
    for mechanism in OWN:
        drawn = draw_simulation(np.random.default_rng(0), mechanism, **SHARED_OPTIONS, **OWN_OPTIONS).mechanism
        rng = np.random.default_rng(1)
        noise, batch = rng.standard_normal((4, drawn.n_sources)), rng.standard_normal((4, 53))
        mixed = drawn.shares(noise, batch, np.array([0, 3, 0, 9]))
        np.testing.assert_allclose(mixed.sum(axis=1), 1)
        np.testing.assert_allclose(mixed[[0, 2]], drawn.shares(noise[[0, 2]], batch[[0, 2]], np.zeros(2, dtype=int)))
        np.testing.assert_allclose(mixed[[1]], drawn.shares(noise[[1]], batch[[1]], np.array([3])))
