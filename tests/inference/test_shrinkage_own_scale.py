import numpy as np
import pytest

from dbdiffusion.inference import ErrorLaw, own_scales
from dbdiffusion.inference._shrinkage import GRID, effective_number_of_genes

K, G = 30, 300
LAW = ErrorLaw(df=8.0, scale=0.7, kappa=0.5)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def errors_of(rng, scales, noise):
    between, predicted = rng.uniform(0.5, 2, (K, G)), rng.standard_normal((K, G))
    unknown = np.sqrt(LAW.variance(between, predicted)) * rng.standard_t(LAW.df, (K, G))
    noise = np.full((K, G), noise)
    return scales[:, None] * unknown + np.sqrt(noise) * rng.standard_normal((K, G)), between, predicted, noise


def test_scales_that_drew_the_errors_are_recovered(rng):
    true = np.exp(0.6 * rng.standard_normal(K))
    np.testing.assert_allclose(own_scales(*errors_of(rng, true, 0.05), LAW), true, rtol=0.3)


def test_one_scale_for_all_is_the_laws(rng):
    scales = own_scales(*errors_of(rng, np.ones(K), 0.05), LAW)
    np.testing.assert_allclose(scales, 1, atol=0.12)


def test_errors_that_are_noise_tell_nothing_apart(rng):
    true = np.where(np.arange(K) < K // 2, 0.5, 2.0)
    scales = own_scales(*errors_of(rng, true, 1e4), LAW)
    assert scales.max() / scales.min() < 1.3


def test_order_of_perturbations_does_not_matter(rng):
    errors = errors_of(rng, np.exp(0.5 * rng.standard_normal(K)), 0.3)
    order = rng.permutation(K)
    np.testing.assert_allclose(own_scales(*(x[order] for x in errors), LAW), own_scales(*errors, LAW)[order], rtol=1e-6)


def test_correlated_genes_count_for_less(rng):
    few = rng.standard_normal((K, 10))
    loadings = rng.standard_normal((10, G))
    assert effective_number_of_genes(few @ loadings) < 12
    np.testing.assert_allclose(effective_number_of_genes(rng.standard_normal((100, G))), G, rtol=0.15)


def test_correlated_genes_move_a_scale_less(rng):
    errors, between, predicted, noise = errors_of(rng, np.ones(K), 0.05)
    errors[0] *= 2
    free = own_scales(errors, between, predicted, noise, LAW)
    together = own_scales(np.repeat(errors[:, ::30], 30, axis=1), between, predicted, noise, LAW)
    assert 1 < together[0] < free[0]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_perturbations_keep_the_law(rng, n):
    errors = (x[:n] for x in errors_of(rng, np.ones(K), 0.1))
    np.testing.assert_array_equal(own_scales(*errors, LAW), np.ones(n))


def test_genes_that_never_vary_leave_scales_at_the_prior(rng):
    zero = np.zeros((K, G))
    scales = own_scales(zero, zero, zero, zero, LAW)
    assert np.ptp(scales) < 1e-9
    assert GRID[0] < scales[0] < GRID[-1]
