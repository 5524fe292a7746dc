import numpy as np
import pytest

from dbdiffusion.model._generate import GenerationOptions
from dbdiffusion.model._references import GENERATED, ReferencePool, reference_pool, references_of


@pytest.mark.parametrize("cross_fitting", ["k_fold", "embedding", "in_sample"])
def test_every_measured_gene_is_a_reference(trained, cross_fitting):
    pool = reference_pool(trained, cross_fitting, GenerationOptions(), 32)
    assert pool.rows.tolist() == list(range(len(trained._screen().names)))
    shape = (len(pool.rows), trained.adata.n_vars)
    assert all(values.shape == shape and np.isfinite(values).all() for values in pool.predicted.values())


def test_left_out_predictions_differ_from_in_sample_ones(trained):
    pools = {way: reference_pool(trained, way, GenerationOptions(), 64) for way in ("embedding", "in_sample")}
    observed = trained._screen().observed.effect
    left_out, in_sample = (pools[way].predicted[GENERATED] for way in ("embedding", "in_sample"))
    assert ((in_sample - left_out) * (observed - left_out)).sum() > 0  # told the effect, it moves towards it


def test_means_of_observed_effects_carry_the_controls_error_and_the_generator_is_taken_to_carry_half(trained):
    for way, share in {"embedding": 0.5, "in_sample": 1.0}.items():
        pool = reference_pool(trained, way, GenerationOptions(), 8)
        references = references_of(trained, pool, np.arange(len(pool.rows)))
        assert dict(zip(pool.predicted, references.control_shares, strict=True)) == {
            name: share if name == GENERATED else 1.0 for name in pool.predicted
        }


def test_in_sample_has_no_linear_predictor(trained):
    assert list(reference_pool(trained, "in_sample", GenerationOptions(), 8).predicted) == [GENERATED]


def test_references_are_of_the_targets_kind():
    pool = ReferencePool(np.arange(7), (), {}, {}, np.array([0, 0, 0, 0, 1, 1, 1], dtype=bool))
    assert pool.select(combination=True).tolist() == [4, 5, 6]
    assert pool.select(combination=False).tolist() == [0, 1, 2, 3]
    few = ReferencePool(np.arange(5), (), {}, {}, np.array([0, 0, 0, 1, 1], dtype=bool))
    assert few.select(combination=True).tolist() == [0, 1, 2, 3, 4]
