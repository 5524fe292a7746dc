import numpy as np
import pandas as pd
from tiny import observed_effects

from dbdiffusion.embedding import fit_space, neighbour_coherence
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


def test_neighbours_count_as_they_do_in_the_prediction():
    """Far ones say nothing, however many they are; whom nobody resembles has the least."""
    effect, vectors = two_groups()
    few, many = effect[:4], np.concatenate([effect[:4], np.random.default_rng(1).standard_normal((P - 4, G))])
    vectors[0:3:2], vectors[4:P] = np.eye(R)[0], np.eye(R)[1] + 0.2 * np.eye(R)[0]
    vectors[P] = np.eye(R)[0]
    alone, crowded = (neighbour_coherence(space_of(one, vectors), [GENES[P]])[0] for one in (few, many))
    assert alone > 0.9
    assert crowded > 0.6
    vectors[P] = -np.eye(R)[0] - np.eye(R)[1]
    assert neighbour_coherence(space_of(many, vectors), [GENES[P]])[0] == 0.01
