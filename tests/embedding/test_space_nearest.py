"""Which measured perturbations are most like a target."""

import numpy as np
import pandas as pd
from tiny import observed_effects

from dbdiffusion.embedding import fit_space, nearest_measured, nearest_similarity
from dbdiffusion.screen import GeneSpace

G, R, P, E = 30, 3, 8, 4
GENES = [f"G{i:02d}" for i in range(G)]


def space_of(vectors):
    effect = np.random.default_rng(0).standard_normal((P, G))
    return fit_space(GENES[:P], observed_effects(effect), GeneSpace(pd.Index(GENES), vectors), E, ("knn",))


def test_the_most_similar_come_first_and_a_perturbation_is_not_its_own_neighbour():
    vectors = np.random.default_rng(1).standard_normal((G, R))
    vectors[20] = 2 * vectors[5]  # the same direction
    space = space_of(vectors)
    near, of_itself = nearest_measured(space, [GENES[20], GENES[5]], n=4)
    assert near[0][0] == GENES[5]
    assert np.isclose(near[0][1], 1)
    assert [cosine for _, cosine in near] == sorted((cosine for _, cosine in near), reverse=True)
    assert GENES[5] not in dict(of_itself)
    assert len(near) == len(of_itself) == 4


def test_there_are_no_more_neighbours_than_measured_ones():
    space = space_of(np.random.default_rng(2).standard_normal((G, R)))
    assert [len(near) for near in nearest_measured(space, [GENES[0], GENES[P]], n=50)] == [P - 1, P]


def test_what_has_no_vector_has_no_neighbours():
    space = space_of(np.random.default_rng(3).standard_normal((G, R)))
    assert nearest_measured(space, ["UNKNOWN"]) == [[]]
    similarity = nearest_similarity(space, ["UNKNOWN", GENES[P]])
    assert np.isnan(similarity[0])
    assert -1 <= similarity[1] <= 1
    assert nearest_similarity(space, []).shape == (0,)
