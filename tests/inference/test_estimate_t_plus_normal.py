import numpy as np
import pytest
from scipy import stats

from dbdiffusion.inference._estimate import scale_mixture, t_plus_normal

N = 200_000
NU = (1.5, 2.5, 6.0)
RATIO = (0.1, 1.0, 10.0)


def held(level, draws, se, df):
    return float((np.abs(draws) <= stats.t.ppf(0.5 + level / 2, df) * se).mean())


@pytest.mark.parametrize("nu", NU)
@pytest.mark.parametrize("ratio", RATIO)
def test_intervals_hold_the_sum_as_often_as_they_say(nu, ratio):
    rng = np.random.default_rng(0)
    draws = 2.0 * rng.standard_t(nu, N) + 2.0 * np.sqrt(ratio) * rng.standard_normal(N)
    (se,), (df,) = t_plus_normal(np.array([4.0]), np.array([4.0 * ratio]), nu)
    for level in (0.8, 0.99):
        assert abs(held(level, draws, se, df) - level) < 4 * np.sqrt(level * (1 - level) / N) + 5e-4
    if nu >= 2.5:
        assert 0.475 < held(0.5, draws, se, df) < 0.505
        assert 0.947 < held(0.95, draws, se, df) < 0.96


@pytest.mark.parametrize("nu", NU)
def test_it_is_the_t_without_noise_and_the_normal_without_a_t(nu):
    se, df = t_plus_normal(np.array([4.0, 4.0, 4.0, 0.0, 0.0]), np.array([0.0, 1e-9, 4.0, 4.0, 0.0]), nu)
    np.testing.assert_allclose(se[[0, 1, 3, 4]], [2.0, 2.0, 2.0, 0.0], rtol=1e-3)
    np.testing.assert_allclose(df[:2], nu, rtol=1e-2)
    assert np.isinf(df[3])
    assert nu < df[2] < np.inf
    assert np.isfinite(df[4])


def test_known_noise_widens_and_thins_the_tails():
    ratio = np.geomspace(1e-4, 1e4, 200)
    se, df = t_plus_normal(np.ones(200), ratio, 3.0)
    for level in (0.8, 0.95, 0.99):
        half = stats.t.ppf(0.5 + level / 2, df) * se
        assert (np.diff(half) > -1e-3 * half[:-1]).all()
    assert (np.diff(1 / df) <= 0).all()


def test_only_the_scale_changes_with_the_scale():
    rng = np.random.default_rng(0)
    t_variance, noise = rng.uniform(0, 2, (7, 11)), rng.uniform(0, 2, 11)
    se, df = t_plus_normal(t_variance, noise, 3.0)
    larger_se, same_df = t_plus_normal(9 * t_variance, 9 * noise, 3.0)
    np.testing.assert_allclose(larger_se, 3 * se)
    np.testing.assert_allclose(same_df, df)


def test_a_normal_stays_normal():
    se, df = t_plus_normal(np.array([3.0]), np.array([1.0]), np.inf)
    assert se == 2.0
    assert np.isinf(df)


def test_the_mixture_is_the_t():
    precision, weight = scale_mixture(3.0, 200)
    x = np.array([0.3, 1.0, 3.0, 10.0])
    np.testing.assert_allclose(stats.norm.sf(x[:, None] * np.sqrt(precision)) @ weight, stats.t.sf(x, 3.0), rtol=5e-3)
