import numpy as np
import pandas as pd
import pytest

from dbdiffusion.embedding import fit_space, reference_weights
from dbdiffusion.embedding._reference_sets import kernel_weights
from dbdiffusion.screen import GeneSpace, ObservedEffects

K, G = 20, 24


@pytest.fixture
def space():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 12)
    names = pd.Index([f"G{i}" for i in range(G)])
    genes = GeneSpace(names, 5 * np.eye(2)[group] + 0.1 * rng.standard_normal((G, 2)))
    rows = np.array([*range(10), *range(12, 22)])
    effect = 5 * np.eye(G)[group[rows]] + 0.1 * rng.standard_normal((K, G))
    one = np.ones((K, G))
    observed = ObservedEffects(effect, 0.01 * one, 0.01 * one, 50 * one, 100.0, one, np.full(K, 50))
    return fit_space(tuple(names[rows]), observed, genes, 2, ("ridge",))


def test_rows_sum_to_one_and_favour_those_alike(space):
    for weights in reference_weights(space, ["G11", "G23"], space.names).values():
        np.testing.assert_allclose(weights.sum(axis=1), 1)
        assert weights[0, :10].sum() > 0.9
        assert weights[1, 10:].sum() > 0.9


def test_what_the_space_does_not_hold_gets_no_weight(space):
    without = space.leave_out("G3", "G5")
    for weights in reference_weights(without, ["G3"], space.names).values():
        assert weights[0, [3, 5]].tolist() == [0, 0]
        np.testing.assert_allclose(weights.sum(), 1)


def test_a_target_without_a_vector_weighs_all_alike(space):
    for weights in reference_weights(space, ["nobody"], space.names).values():
        np.testing.assert_allclose(weights, 1 / K)


def test_order_of_the_references_does_not_matter(space):
    order = np.random.default_rng(1).permutation(K)
    names = [space.names[i] for i in order]
    first, second = (reference_weights(space, ["G11"], n) for n in (space.names, names))
    for kind in first:
        np.testing.assert_allclose(second[kind], first[kind][:, order])


@pytest.mark.parametrize("n_effective", [2.0, 5.0, 9.0])
def test_kernel_has_the_effective_number_asked_for(n_effective):
    similarity = np.random.default_rng(2).uniform(-1, 1, (6, 15))
    weights = kernel_weights(similarity, n_effective)
    np.testing.assert_allclose(1 / (weights**2).sum(axis=1), n_effective, rtol=1e-3)
    assert all((np.argsort(w) == np.argsort(s)).all() for w, s in zip(weights, similarity, strict=True))
