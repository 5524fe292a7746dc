import numpy as np
import pytest
from scipy.stats import energy_distance as scipy_energy_distance

from dbdiffusion.metrics import energy_distance, mmd_rbf

N, M, D = 23, 17, 5


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    return rng.standard_normal((N, D)), rng.standard_normal((M, D)) + 0.7


def pair_means(first, second, function):
    """Means of a function over pairs of different cells: across, within the first, within the second."""
    across = np.mean([function(x, y) for x in first for y in second])
    within = [np.mean([function(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j]) for z in (first, second)]
    return across, *within


def test_energy_distance_is_its_formula(cells):
    across, first, second = pair_means(*cells, lambda x, y: np.sqrt(((x - y) ** 2).sum()))
    np.testing.assert_allclose(energy_distance(*cells), 2 * across - first - second)


def test_energy_distance_with_self_pairs_is_scipys_exactly():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(N), 1.5 * rng.standard_normal(M) + 1
    np.testing.assert_allclose(
        energy_distance(x[:, None], y[:, None], self_pairs=True), scipy_energy_distance(x, y) ** 2, rtol=1e-9
    )


def test_energy_distance_is_scipys_in_one_dimension():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(1500), 1.5 * rng.standard_normal(1200) + 1
    np.testing.assert_allclose(energy_distance(x[:, None], y[:, None]), scipy_energy_distance(x, y) ** 2, rtol=0.02)


def test_mmd_is_its_formula(cells):
    squared = np.array([((x - y) ** 2).sum() for x in cells[0] for y in cells[1]])
    expected = []
    for bandwidth in (0.5, 3.0):
        width = bandwidth**2 * np.median(squared)
        across, first, second = pair_means(*cells, lambda x, y, w=width: np.exp(-((x - y) ** 2).sum() / w))
        expected.append(first + second - 2 * across)
    np.testing.assert_allclose(mmd_rbf(*cells, bandwidths=(0.5, 3.0)), np.mean(expected))


@pytest.mark.parametrize("distance", [energy_distance, mmd_rbf])
class TestBoth:
    def test_is_zero_in_expectation_for_the_same_law(self, distance):
        rng = np.random.default_rng(0)
        values = [distance(rng.standard_normal((N, D)), rng.standard_normal((M, D))) for _ in range(400)]
        assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(400)
        assert min(values) < 0 < max(values)

    def test_grows_with_a_shift(self, distance, cells):
        first, second = cells
        values = [distance(first, second + shift) for shift in (0.0, 1.0, 2.0, 4.0)]
        assert values[0] > 0
        assert (np.diff(values) > 0).all()

    def test_sees_a_difference_of_spread(self, distance):
        rng = np.random.default_rng(0)
        first, second = rng.standard_normal((2, 200, D))
        assert distance(first, 2 * second) > 5 * abs(distance(first, second))

    def test_ignores_order_rotation_and_origin(self, distance, cells):
        first, second = cells
        rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((D, D)))[0]
        expected = distance(first, second)
        np.testing.assert_allclose(distance(second, first), expected)
        np.testing.assert_allclose(distance(first[::-1], second), expected)
        np.testing.assert_allclose(distance(first @ rotation + 9, second @ rotation + 9), expected)

    def test_is_finite_for_equal_cells(self, distance):
        assert distance(np.ones((3, D)), np.ones((4, D))) == 0


def test_scaling_scales_energy_and_leaves_mmd(cells):
    first, second = cells
    np.testing.assert_allclose(energy_distance(8 * first, 8 * second), 8 * energy_distance(first, second))
    np.testing.assert_allclose(mmd_rbf(8 * first, 8 * second), mmd_rbf(first, second))
