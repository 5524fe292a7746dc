import numpy as np
import scipy.sparse as sp

from dbdiffusion.predict import judge_nulls
from dbdiffusion.screen import null_contrasts


def test_tests_of_nothing_find_as_much_as_they_say():
    rng = np.random.default_rng(0)
    values = sp.csr_matrix(np.log1p(rng.poisson(3.0, (600, 70)).astype(float)))
    null = judge_nulls(null_contrasts(values, np.zeros(600, dtype=int), 50, 40, 1), np.array([f"g{i}" for i in range(70)]))
    assert null.p_values.shape == (40, 70)
    assert (null.table["n_cells"] == 50).all()
    assert 0.035 < null.table["below_0.05"].mean() < 0.065
    assert null.table["n_discoveries"].mean() < 0.5
    assert null.by_expression["n_tests"].sum() == 40 * 70


def test_genes_that_do_not_vary_or_are_rare_are_not_tested():
    rng = np.random.default_rng(0)
    values = np.log1p(rng.poisson(3.0, (300, 5)).astype(float))
    values[:, 0] = 0
    values[:, 1] = rng.uniform(size=300) < 0.02
    p_values = judge_nulls(
        null_contrasts(sp.csr_matrix(values), np.zeros(300, dtype=int), 40, 6, 1), np.array(list("abcde"))
    ).p_values
    assert p_values[["a", "b"]].isna().all(axis=None)
    assert p_values[["c", "d", "e"]].notna().all(axis=None)
