import numpy as np

from dbdiffusion.simulate._modules import rebalanced, softmax

RNG = np.random.default_rng(0)
SHARES = softmax(RNG.standard_normal((5, 7)))
CHANGE = RNG.standard_normal((5, 7))


def test_shares_sum_to_one():
    np.testing.assert_allclose(SHARES.sum(axis=1), 1)


def test_outside_the_pool_nothing_changes_and_the_sum_stays():
    pool = np.array([True, False, True, True, False, False, True])
    after = rebalanced(SHARES, CHANGE, pool)
    np.testing.assert_array_equal(after[:, ~pool], SHARES[:, ~pool])
    np.testing.assert_allclose(after.sum(axis=1), 1)
    ratio = np.log(after / SHARES)[:, pool] - CHANGE[:, pool]
    np.testing.assert_allclose(
        ratio, ratio[:, :1] @ np.ones((1, 4))
    )  # within the pool changes are those asked for, up to a factor


def test_a_pool_of_all_genes_is_softmax():
    np.testing.assert_allclose(rebalanced(SHARES, CHANGE, np.ones(7, dtype=bool)), softmax(np.log(SHARES) + CHANGE))


def test_what_it_is_given_stays():
    before = SHARES.copy()
    rebalanced(SHARES, CHANGE[0], np.arange(7) < 3)
    np.testing.assert_array_equal(SHARES, before)
