import numpy as np
import pytest

from dbdiffusion.model._generate import GenerationOptions
from dbdiffusion.model._references import GENERATED, ReferencePool, reference_pool


@pytest.mark.parametrize("cross_fitting", ["k_fold", "embedding", "in_sample"])
def test_every_measured_gene_is_a_reference(trained, cross_fitting):
    pool = reference_pool(trained, cross_fitting, GenerationOptions(), 32)
    assert pool.rows.tolist() == list(range(len(trained._screen().names)))
    shape = (len(pool.rows), trained.adata.n_vars)
    assert all(values.shape == shape and np.isfinite(values).all() for values in pool.predicted.values())


def test_left_out_predictions_differ_from_in_sample_ones(trained):
    pools = {way: reference_pool(trained, way, GenerationOptions(), 64) for way in ("embedding", "in_sample")}
    observed = trained._screen().observed.effect
    error = {way: ((pool.predicted[GENERATED] - observed) ** 2).mean() for way, pool in pools.items()}
    assert error["in_sample"] < error["embedding"]


def test_in_sample_has_no_linear_predictor(trained):
    assert list(reference_pool(trained, "in_sample", GenerationOptions(), 8).predicted) == [GENERATED]


def test_references_are_of_the_targets_kind():
    pool = ReferencePool(np.arange(7), (), {}, {}, np.array([0, 0, 0, 0, 1, 1, 1], dtype=bool))
    assert pool.select(combination=True).tolist() == [4, 5, 6]
    assert pool.select(combination=False).tolist() == [0, 1, 2, 3]
    few = ReferencePool(np.arange(5), (), {}, {}, np.array([0, 0, 0, 1, 1], dtype=bool))
    assert few.select(combination=True).tolist() == [0, 1, 2, 3, 4]
