import numpy as np
import pytest
import scipy.sparse as sp

from dbdiffusion.screen import ControlHalves, control_halves

N, G, P, BATCHES = 41, 7, 5, 3


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    values = rng.poisson(1.0, (N, G)).astype(float)
    batch = np.repeat([0, 1, 2], [20, 12, 9])
    weight = rng.dirichlet(np.ones(BATCHES), P)
    return values, batch, weight


def test_halves_together_are_all_control_cells(cells):
    values, batch, weight = cells
    halves = control_halves(sp.csr_matrix(values), batch, weight)
    assert halves.first.shape == halves.second.shape == (6, BATCHES, G)
    for b, n in enumerate((20, 12, 9)):
        small = n // 2
        together = small * halves.second[:, b] + (n - small) * halves.first[:, b]
        np.testing.assert_allclose(together, 0, atol=1e-5)
    assert not np.allclose(halves.first[0], halves.first[1])


def test_shifts_are_those_of_contrasts_with_half_of_the_control_cells(cells):
    values, batch, weight = cells
    halves = control_halves(sp.csr_matrix(values), batch, weight)
    shifts = list(halves.shifts())
    assert len(shifts) == 12
    mine, others = shifts[3]
    np.testing.assert_allclose(mine, weight.mean(axis=0) @ halves.first[3])
    np.testing.assert_allclose(others, weight @ halves.second[3])
    mine, others = shifts[9]  # the same split the other way
    np.testing.assert_allclose(mine, weight.mean(axis=0) @ halves.second[3])
    np.testing.assert_allclose(others, weight @ halves.first[3])


def test_one_control_cell_cannot_be_halved(cells):
    values, batch, weight = cells
    batch = np.where(np.arange(N) == 0, 2, np.where(batch == 2, 1, batch))  # one cell in the last batch
    assert control_halves(sp.csr_matrix(values), batch, weight) is None
    weight[:, 2] = 0  # where nothing is contrasted it need not be
    assert control_halves(sp.csr_matrix(values), batch, weight) is not None


def test_same_seed_same_halves_and_joined_screens_keep_their_own(cells):
    values, batch, weight = cells
    one, again = (control_halves(sp.csr_matrix(values), batch, weight, seed=4) for _ in range(2))
    assert np.array_equal(one.first, again.first)
    other = control_halves(sp.csr_matrix(values[:, ::-1].copy()), batch, weight[:2], seed=5)
    both = one.joined(other)
    assert both.weight.shape == (P + 2, 2 * BATCHES)
    for rows, alone in ((np.arange(P), one), (np.arange(P, P + 2), other)):
        for (mine, others), (own_mine, own_others) in zip(both.subset(rows).shifts(), alone.shifts(), strict=True):
            np.testing.assert_allclose(mine, own_mine)
            np.testing.assert_allclose(others, own_others)
    assert isinstance(ControlHalves(**one.to_dict()), ControlHalves)
