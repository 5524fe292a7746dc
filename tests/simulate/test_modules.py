import numpy as np
import pytest

from dbdiffusion import simulate_screen
from dbdiffusion.simulate._modules import mixed_shift

SMALL = {"n_genes": 83, "n_perturbations": 7, "n_cells_per_perturbation": 15, "n_control_cells": 23, "n_modules": 5, "seed": 4}


def test_mixed_shifts_keep_their_size_whatever_the_alignment():
    own, unrelated = np.random.default_rng(0).standard_normal((2, 20_000))
    for alignment in (0.0, 0.3, 1.0):
        assert abs(mixed_shift(own, unrelated, alignment).var() - 1) < 0.04
    np.testing.assert_array_equal(mixed_shift(own, unrelated, 1.0), own)
    np.testing.assert_array_equal(mixed_shift(own, unrelated, 0.0), unrelated)


def test_unchanged_genes_are_exactly_unchanged_and_the_target_is_not():
    truth = simulate_screen(**SMALL, unchanged=0.7).uns["true_effects"]
    assert ((truth == 0).sum(axis=1) == round(0.7 * 83)).all()
    assert all(truth.loc[name, name] < -0.2 for name in truth.index)
    zero = (truth == 0).to_numpy()
    assert (zero[0] != zero[1]).any()  # each its own


def test_changed_genes_change_as_they_do_where_all_change():
    """But for the factor by which shares make up for each other."""
    options = {**SMALL, "n_genes": 400, "n_perturbations": 11}
    all_change, some = (simulate_screen(**options, unchanged=share).uns["true_effects"] for share in (0.0, 0.5))
    for name in some.index:
        changed = some.loc[name] != 0
        assert np.corrcoef(some.loc[name, changed], all_change.loc[name, changed])[0, 1] > 0.95


def test_pairs_leave_unchanged_what_neither_part_changes():
    truth = simulate_screen(**SMALL, unchanged=0.6, n_combinations=4, n_synergies=2).uns["true_effects"]
    zero = truth == 0
    for name in truth.index[7:]:
        first, second = name.split("+")
        assert (zero.loc[name] == (zero.loc[first] & zero.loc[second])).all()


def test_a_screen_in_which_most_genes_are_unchanged_and_nothing_else_happens():
    truth = simulate_screen(**SMALL, unchanged=0.5, effect_size=0.0).uns["true_effects"]
    own = np.array([truth.columns == name for name in truth.index])
    values = truth.to_numpy()
    assert (values[own] < -0.2).all()
    assert np.abs(values[~own]).max() < 0.3 * np.abs(values[own]).min()


@pytest.mark.parametrize("unchanged", [0.0, 0.5])
def test_synergies_are_what_planted_pairs_do_beyond_their_parts(unchanged):
    options = {**SMALL, "n_combinations": 9, "unchanged": unchanged}
    adata = simulate_screen(**options, n_synergies=3)
    truth, synergies = adata.uns["true_effects"], adata.uns["true_synergies"]
    assert synergies.shape == (3, 83)
    for name, row in synergies.iterrows():
        first, second = name.split("+")
        np.testing.assert_allclose(row, truth.loc[name] - truth.loc[first] - truth.loc[second], atol=1e-12)
    beyond = {
        name: np.square(truth.loc[name] - truth.loc[name.split("+")[0]] - truth.loc[name.split("+")[1]]).mean()
        for name in truth.index[7:]
    }
    planted = [beyond.pop(name) for name in synergies.index]
    assert min(planted) > 3 * max(beyond.values())


def test_synergies_leave_all_else_as_it_is():
    """The very same draws; truth but for the states that it integrates over."""
    options = {**SMALL, "n_combinations": 9}
    without, some = simulate_screen(**options), simulate_screen(**options, n_synergies=3)
    assert "true_synergies" not in without.uns
    assert without.obs.equals(some.obs)
    others = without.uns["true_effects"].index.difference(some.uns["true_synergies"].index)
    assert len(others) == 13
    one, other = (adata.uns["true_effects"].loc[others].to_numpy() for adata in (without, some))
    np.testing.assert_allclose(one, other, atol=0.05 * np.abs(one).max())


def test_synergies_grow_with_their_size():
    sizes = [
        np.abs(
            simulate_screen(**SMALL, n_combinations=5, n_synergies=2, synergy_size=size).uns["true_synergies"].to_numpy()
        ).mean()
        for size in (0.3, 1.0, 2.0)
    ]
    assert (np.diff(sizes) > 0).all()
