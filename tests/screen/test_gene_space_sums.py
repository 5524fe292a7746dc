import numpy as np
import pytest
import scipy.sparse as sp

from dbdiffusion.screen import _gene_space as module
from dbdiffusion.screen._gene_space import sums_without

N, G, B = 83, 7, 3
EXCLUDED = [(), (0,), (3,), (0, 3), (1, 2), (0, 1, 2, 3, 4), (9,)]


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    return rng.poisson(1.0, (N, G)).astype(float), rng.integers(0, B, N), rng.integers(0, 5, N)


def all_sums(values, batch, group, excluded=EXCLUDED):
    return dict(sums_without(sp.csr_matrix(values), batch, group, excluded))


def test_sums_are_those_of_the_cells_that_are_left(cells):
    values, batch, group = cells
    found = all_sums(*cells)
    assert sorted(found) == list(range(len(EXCLUDED)))
    for i, groups in enumerate(EXCLUDED):
        kept = ~np.isin(group, groups)
        np.testing.assert_allclose(found[i].product, values[kept].T @ values[kept])
        np.testing.assert_array_equal(found[i].n_cells, np.bincount(batch[kept], minlength=B))
        np.testing.assert_allclose(found[i].total, [values[kept & (batch == b)].sum(axis=0) for b in range(B)])


def test_variance_and_covariance_are_within_batches(cells):
    values, batch, group = cells
    sums = all_sums(*cells)[1]
    kept = group != 0
    residual = np.concatenate([values[kept & (batch == b)] - values[kept & (batch == b)].mean(axis=0) for b in range(B)])
    np.testing.assert_allclose(sums.covariance(), residual.T @ residual / kept.sum(), atol=1e-12)
    np.testing.assert_allclose(sums.variance, residual.var(axis=0), atol=1e-12)


@pytest.mark.parametrize("kept_bytes", [0, 2**31])
def test_what_is_left_out_has_no_part_not_even_as_rounding(cells, monkeypatch, kept_bytes):
    monkeypatch.setattr(module, "KEPT_BYTES", kept_bytes)
    values, batch, group = cells
    before = all_sums(*cells)
    for i, groups in enumerate(EXCLUDED):
        out = np.isin(group, groups)
        changed, others = values.copy(), ~out | (np.arange(N) % 2 == 0)
        changed[out] = 1e9 * np.random.default_rng(i).standard_normal((out.sum(), G))
        after = all_sums(changed[others], batch[others], group[others])[i]
        for name in ("n_cells", "total", "product"):
            assert np.array_equal(getattr(before[i], name), getattr(after, name)), groups


def test_chunks_of_cells_do_not_matter(cells, monkeypatch):
    before = all_sums(*cells)
    monkeypatch.setattr(module, "CHUNK", 5)
    for i, sums in all_sums(*cells).items():
        np.testing.assert_allclose(sums.product, before[i].product)
