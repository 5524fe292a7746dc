import numpy as np
import pytest
import scipy.sparse as sp

from dbdiffusion.screen import null_contrasts

N, G = 120, 7


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    batch = np.arange(N) % 3
    return sp.csr_matrix(rng.random((N, G)) + batch[:, None]), batch


def test_a_split_is_a_contrast_of_chosen_against_others(cells):
    values, _ = cells
    null = null_contrasts(values, np.zeros(N, dtype=int), n_cells=20, n_splits=3, seed=5)
    rng, dense = np.random.default_rng(5), values.toarray()
    for split in range(3):
        chosen = np.isin(np.arange(N), rng.permutation(N)[:20])
        np.testing.assert_allclose(null.effect[split], dense[chosen].mean(axis=0) - dense[~chosen].mean(axis=0))
    assert null.n_cells.tolist() == [20, 20, 20]


def test_batches_are_no_effect(cells):
    inside = null_contrasts(*cells, n_cells=20, n_splits=40)
    across = null_contrasts(cells[0], np.zeros(N, dtype=int), n_cells=20, n_splits=40)
    assert inside.effect.std() < 0.6 * across.effect.std()


def test_stated_variances_are_right(cells):
    null = null_contrasts(*cells, n_cells=30, n_splits=400)
    np.testing.assert_allclose(null.effect.var(), (null.variance + null.control_variance).mean(), rtol=0.15)


def test_same_seed_same_splits(cells):
    first, second, other = (null_contrasts(*cells, n_cells=20, n_splits=4, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.effect, second.effect)
    assert not np.array_equal(first.effect, other.effect)


@pytest.mark.parametrize(
    ("options", "match"), [({"n_cells": 1}, "n_cells"), ({"n_cells": N - 1}, "n_cells"), ({"n_splits": 0}, "n_splits")]
)
def test_impossible_numbers_are_refused(cells, options, match):
    with pytest.raises(ValueError, match=match):
        null_contrasts(*cells, **{"n_cells": 20, "n_splits": 4, **options})
