import numpy as np
import pytest

from dbdiffusion.screen import louvain_clusters, unit
from dbdiffusion.screen._gene_space import _nearest

R = 3


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_what_is_separate_is_separated(rng):
    group = rng.permutation(np.repeat(np.arange(3), 30))
    labels = louvain_clusters(np.eye(R)[group] + 0.02 * rng.standard_normal((90, R)))
    assert all(len(set(group[labels == label])) == 1 for label in set(labels))


def test_nothing_is_drawn_from_shared_generators(rng):
    vectors = rng.standard_normal((60, R))
    np.random.seed(3)  # noqa: NPY002
    first = louvain_clusters(vectors)
    np.random.seed(99)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    assert np.array_equal(first, louvain_clusters(vectors))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_lengths_of_vectors_do_not_matter(rng):
    vectors = rng.standard_normal((50, R))
    assert np.array_equal(louvain_clusters(vectors), louvain_clusters(vectors * rng.uniform(1, 9, (50, 1))))


def test_chunks_of_similarities_do_not_matter(rng, monkeypatch):
    from dbdiffusion.screen import _gene_space as module

    vectors = rng.standard_normal((70, R))
    whole = louvain_clusters(vectors)
    monkeypatch.setattr(module, "CHUNK", 11)
    assert np.array_equal(whole, louvain_clusters(vectors))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_too_few_to_cluster_are_one_cluster(rng, n):
    assert louvain_clusters(rng.standard_normal((n, R))).tolist() == [0] * n


def test_unit_rows_have_length_one_or_zero(rng):
    vectors = np.vstack([rng.standard_normal((4, R)), np.zeros(R)])
    np.testing.assert_allclose(np.linalg.norm(unit(vectors), axis=1), [1, 1, 1, 1, 0])


def test_among_equally_near_ones_neither_chance_nor_the_last_digit_chooses():
    """Along one axis all vectors of a sign are equally near; which of them a library takes first differs by processor."""
    vectors = np.random.default_rng(4).standard_normal((53, 1))
    graph = _nearest(unit(vectors), k=7)
    assert (graph.sum(axis=1) == 7).all()
    of_first = np.flatnonzero(graph[0].toarray())
    assert np.array_equal(of_first, np.flatnonzero((vectors[:, 0] > 0) == (vectors[0, 0] > 0))[1:8])

    doubled = np.repeat(np.random.default_rng(5).standard_normal((20, 3)), 4, axis=0)
    labels = louvain_clusters(doubled)
    for seed in range(5):
        noise = np.random.default_rng(seed).standard_normal(doubled.shape)
        assert np.array_equal(louvain_clusters(doubled * (1 + 1e-14 * noise)), labels)
