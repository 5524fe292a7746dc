import numpy as np
import pandas as pd
import pytest
from tiny import observed_effects

from dbdiffusion.embedding import fit_space, neighbour_coherence
from dbdiffusion.embedding._space import kernel_weights
from dbdiffusion.screen import GeneSpace

G, R, E, P = 60, 4, 6, 24
GENES = [f"G{i:02d}" for i in range(G)]


def space_of(effect, vectors):
    names = GENES[: len(effect)]
    return fit_space(names, observed_effects(effect), GeneSpace(pd.Index(GENES), vectors), E, ("knn",))


def two_groups(seed=0):
    """Genes in two directions; perturbations of the first agree, those of the second do not."""
    rng = np.random.default_rng(seed)
    first = np.arange(G) % 2 == 0
    vectors = np.where(first[:, None], np.eye(R)[0], np.eye(R)[1]) + 0.05 * rng.standard_normal((G, R))
    shared = rng.standard_normal(G)
    effect = np.where(first[:P, None], shared + 0.1 * rng.standard_normal((P, G)), rng.standard_normal((P, G)))
    return effect, vectors


def test_neighbours_that_agree_are_coherent():
    space = space_of(*two_groups())
    agreeing, others = (neighbour_coherence(space, GENES[start::2][P // 2 :]) for start in (0, 1))
    assert np.median(agreeing) > 0.8
    assert np.median(others) < 0.5
    assert ((agreeing > 0) & (agreeing <= 1)).all()


def test_what_has_no_vector_has_the_least():
    space = space_of(*two_groups())
    assert neighbour_coherence(space, ["UNKNOWN"]).tolist() == [0.01]
    assert neighbour_coherence(space, []).shape == (0,)


def test_scale_of_effects_and_of_vectors_says_nothing():
    effect, vectors = two_groups()
    plain, scaled = (neighbour_coherence(space_of(*both), GENES[P:]) for both in ((effect, vectors), (3 * effect, 2 * vectors)))
    np.testing.assert_allclose(plain, scaled, rtol=1e-4)


@pytest.mark.parametrize("n_effective", [2.0, 5.0, 9.0])
def test_kernel_has_the_effective_number_asked_for(n_effective):
    similarity = np.random.default_rng(2).uniform(-1, 1, (6, 15))
    weights = kernel_weights(similarity, n_effective)
    np.testing.assert_allclose(1 / (weights**2).sum(axis=1), n_effective, rtol=1e-3)
    assert all((np.argsort(w) == np.argsort(s)).all() for w, s in zip(weights, similarity, strict=True))
