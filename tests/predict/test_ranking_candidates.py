"""Laws of candidates of a screen without a network: every name that is listed has an answer, and no other does."""

import numpy as np
import pandas as pd
import pytest
from tiny import screen_of_effects

from dbdiffusion.embedding import fit_space
from dbdiffusion.predict import candidate_names
from dbdiffusion.screen import GeneSpace

GENES = [f"g{i}" for i in range(9)]


def space(names, ranking=("knn",), vectors=None):
    rng = np.random.default_rng(0)
    genes = GeneSpace(pd.Index(GENES), rng.standard_normal((9, 3)))
    screen = screen_of_effects(names, rng.standard_normal((len(names), 9)), genes)
    return fit_space(screen.names, screen.observed, genes, 2, ranking, vectors)


def test_names_are_measured_ones_genes_and_those_with_vectors():
    vectors = pd.DataFrame(np.eye(4, 2), index=["g0", "g1", "ELSE", "g2+g3"])
    one = space(["g0", "g1", "g3+g2", "OUT"], ("table", "knn"), vectors)
    names = candidate_names(one)
    assert names == ["g0", "g1", "g3+g2", "OUT", *GENES[2:], "ELSE"]  # the pair once, in the order in which it was measured
    assert all(one.can_embed(name) for name in names)


def test_where_nothing_places_genes_only_measured_ones_can_be_asked():
    assert candidate_names(space(["OUT1", "OUT2"])) == ["OUT1", "OUT2"]


@pytest.mark.parametrize("names", [["g0", "g1", "g2"], ["g5", "OUT", "g7"]])
def test_unit_vectors_have_length_one_or_none(names):
    one = space(["g0", "g1", "g2"])
    length = np.linalg.norm(one.unit_vectors(names), axis=1)
    assert np.allclose(length[np.isfinite(length)], 1)
    assert np.isnan(length).tolist() == [name == "OUT" for name in names]
