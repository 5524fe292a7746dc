import numpy as np
import pytest

from dbdiffusion.embedding import _strategies as module
from dbdiffusion.embedding._strategies import STRATEGIES, UNCLUSTERED, Evidence, cluster, knn, mean, ridge

K, R, E, T = 40, 5, 3, 4


def evidence(vectors, clusters=None):
    return Evidence(vectors, np.full(len(vectors), UNCLUSTERED) if clusters is None else np.asarray(clusters))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_target_does_not_depend_on_the_other_targets(rng, strategy):
    known = evidence(rng.standard_normal((K, R)), rng.integers(0, 4, K))
    target = evidence(rng.standard_normal((T, R)), [0, 3, UNCLUSTERED, 1])
    embedding = rng.standard_normal((K, E))
    together = STRATEGIES[strategy](known, embedding, target)
    alone = np.vstack([STRATEGIES[strategy](known, embedding, target.subset(np.array([i]))) for i in range(T)])
    assert together.shape == (T, E)
    np.testing.assert_allclose(together, alone, atol=1e-12)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_equal_embeddings_are_the_answer(rng, strategy):
    known, target = evidence(rng.standard_normal((K, R))), evidence(rng.standard_normal((T, R)))
    answer = STRATEGIES[strategy](known, np.tile([1.0, -2.0, 3.0], (K, 1)), target)
    np.testing.assert_allclose(answer, np.tile([1.0, -2.0, 3.0], (T, 1)), atol=1e-9)


def test_mean(rng):
    embedding = rng.standard_normal((K, E))
    answer = mean(evidence(rng.standard_normal((K, R))), embedding, evidence(rng.standard_normal((T, R))))
    np.testing.assert_allclose(answer, np.tile(embedding.mean(axis=0), (T, 1)))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_ridge_recovers_a_linear_map_on_any_scale(rng, scale):
    vectors, target, linear = rng.standard_normal((200, R)), rng.standard_normal((T, R)), rng.standard_normal((R, E))
    embedding = vectors @ linear + 7 + 0.05 * rng.standard_normal((200, E))
    answer = ridge(evidence(scale * vectors), embedding, evidence(scale * target))
    np.testing.assert_allclose(answer, target @ linear + 7, atol=0.05)


def test_ridge_shrinks_to_the_mean_when_vectors_say_nothing(rng):
    vectors, embedding = rng.standard_normal((200, R)), rng.standard_normal((200, E))
    answer = ridge(evidence(vectors), embedding, evidence(rng.standard_normal((T, R))))
    assert np.abs(answer - embedding.mean(axis=0)).max() < 0.35
    np.testing.assert_allclose(
        ridge(evidence(0 * vectors), embedding, evidence(np.ones((T, R)))), np.tile(embedding.mean(axis=0), (T, 1)), atol=1e-9
    )


def test_knn_is_about_an_identical_neighbour(rng):
    known, embedding = evidence(np.eye(R)), rng.standard_normal((R, E))
    answer = knn(known, embedding, evidence(5 * np.eye(R)[[2]]))[0]
    np.testing.assert_allclose(answer, (embedding[2] + 0.2**4 * embedding.mean(axis=0)) / (1 + 0.2**4))
    assert np.linalg.norm(answer - embedding[2]) == np.linalg.norm(answer - embedding, axis=1).min()


@pytest.mark.parametrize("vector", [-np.ones(R), np.zeros(R), np.append(np.zeros(R - 1), 1e-9) - np.ones(R)])
@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_knn_is_the_mean_when_nothing_resembles(rng, vector, shared):
    embedding = rng.standard_normal((R, E))
    answer = knn(evidence(np.eye(R) + shared), embedding, evidence(vector[None]))[0]
    np.testing.assert_allclose(answer, embedding.mean(axis=0))


def test_knn_is_the_mean_where_a_cosine_is_rounding_alone(rng):
    basis, embedding = np.linalg.qr(rng.standard_normal((40, 12)))[0].T, rng.standard_normal((10, E))
    answer = knn(evidence(basis[:10]), embedding, evidence(basis[10:]))
    np.testing.assert_allclose(answer, np.tile(embedding.mean(axis=0), (2, 1)), atol=1e-9)


def test_knn_weighs_by_the_fourth_power_of_the_cosine(rng):
    """Half the cosine is a sixteenth of the weight."""
    angles = np.arccos([1.0, 0.5, 0.0])
    vectors, embedding = np.column_stack([np.cos(angles), np.sin(angles)]), rng.standard_normal((3, E))
    answer = knn(evidence(vectors), embedding, evidence(np.array([[2.0, 0.0]])))[0]
    of_mean = 0.2 * np.cos(np.pi / 6) ** 4  # the neighbours of the third, which lie between those of the others
    total = 1 + 1 / 16 + of_mean
    np.testing.assert_allclose(answer, (embedding[0] + embedding[1] / 16 + of_mean * embedding.mean(axis=0)) / total)


def test_knn_looks_at_the_nearest_only(rng):
    """Of fifty the twenty nearest count by themselves, the others in the mean of all alone."""
    angles, embedding = np.linspace(0, 1, 50), rng.standard_normal((50, E))
    vectors, target = np.column_stack([np.cos(angles), np.sin(angles)]), np.array([[1.0, 0.0]])
    before = knn(evidence(vectors), embedding, evidence(target))
    for rows, same in ((slice(20, 50), True), (slice(19, 49), False)):
        moved = embedding.copy()
        moved[rows] = embedding[rows][::-1]
        assert np.allclose(knn(evidence(vectors), moved, evidence(target)), before, rtol=1e-12) == same


def test_all_who_tie_with_the_last_of_the_nearest_count(rng):
    """Thirty of one direction and other lengths, whose cosines differ by rounding alone; and the order of rows is nothing."""
    direction, embedding = rng.standard_normal(R), rng.standard_normal((34, E))
    vectors = np.vstack([rng.uniform(0.1, 10, 30)[:, None] * direction, rng.standard_normal((4, R))])
    by_rounding = 0.7 + np.arange(30) * np.spacing(0.7)
    assert (module._neighbour_weights(by_rounding[None]) > 0).all()
    order, target = rng.permutation(34), (direction + 0.3 * rng.standard_normal(R))[None]
    permuted = knn(evidence(vectors[order]), embedding[order], evidence(target))
    np.testing.assert_allclose(permuted, knn(evidence(vectors), embedding, evidence(target)), rtol=1e-9)


@pytest.mark.parametrize("n", [100, 4000])
def test_many_who_resemble_a_little_do_not_drown_a_few_who_do(rng, n):
    target = np.eye(200)[:1]
    others = 0.3 * target + rng.standard_normal((n, 200)) / np.sqrt(200)
    embedding = np.repeat([[1.0], [-1.0]], [4, n], axis=0)
    answer = knn(evidence(np.vstack([np.tile(target, (4, 1)), others])), embedding, evidence(target))
    assert answer.item() > 0.4


def test_a_large_family_does_not_hand_all_others_to_the_mean(rng):
    """Thirty alike, and pairs: a target that one pair resembles gets that pair."""
    pairs = np.repeat(np.eye(60)[:35], 2, axis=0)
    vectors = np.vstack([np.tile(np.eye(60)[50], (30, 1)), pairs])
    embedding = rng.standard_normal((100, E))
    embedding[31] = embedding[30]
    answer = knn(evidence(vectors), embedding, evidence(np.eye(60)[:1]))[0]
    np.testing.assert_allclose(answer, (2 * embedding[30] + 0.2 * embedding.mean(axis=0)) / 2.2)


def test_knn_gives_more_of_the_mean_to_whom_few_resemble(rng):
    vectors = np.vstack([np.tile([1.0, 0.0, 0.0], (9, 1)), [[0.0, 1.0, 0.3]]])
    embedding = np.repeat([[1.0], [-1.0]], [9, 1], axis=0)
    crowded, lonely = knn(evidence(vectors), embedding, evidence(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])))[:, 0]
    assert crowded > 0.95
    assert -0.5 < lonely < 0.5


def test_a_median_of_some_is_about_that_of_all(rng, monkeypatch):
    known, target, embedding = (evidence(rng.standard_normal((n, R))) for n in (230, T, 230))
    of_all = knn(known, embedding.vectors, target)
    monkeypatch.setattr(module, "ENOUGH", 57)
    np.testing.assert_allclose(knn(known, embedding.vectors, target), of_all, atol=0.02)


def test_knn_moves_little_where_vectors_move_little(rng):
    vectors, target, embedding = rng.standard_normal((30, R)), rng.standard_normal((T, R)), rng.standard_normal((30, E))
    before = knn(evidence(vectors), embedding, evidence(target))
    after = knn(evidence(vectors + 1e-9 * rng.standard_normal((30, R))), embedding, evidence(target))
    np.testing.assert_allclose(before, after, atol=1e-6)


@pytest.mark.parametrize("n_noise", [0, 400])
def test_knn_finds_its_neighbours_among_dimensions_that_say_nothing(rng, n_noise):
    """Noise makes all cosines small; the mean of all must not take over."""
    centre = np.repeat([0, 1], 20)
    noise = rng.standard_normal((41, n_noise)) / np.sqrt(max(n_noise, 1))
    vectors = np.hstack([np.eye(2)[np.append(centre, 0)], noise])
    answer = knn(evidence(vectors[:40]), np.array([[1.0], [-1.0]])[centre], evidence(vectors[40:]))
    assert answer.item() > 0.8


def test_cluster_scores_shared_members_squared_over_size(rng, monkeypatch):
    labels = np.repeat([0, 1, 2], [8, 4, 3])
    monkeypatch.setattr(module, "louvain_clusters", lambda _: labels)
    genes = np.array([5, 5, 5, 5, 6, 6, 7, 7, 5, 5, 5, 6, 7, 7, 7])
    embedding = rng.standard_normal((15, E))
    target = evidence(np.zeros((T, R)), [5, 6, 7, 9])
    answer = cluster(evidence(np.zeros((15, R)), genes), embedding, target)
    centre = {c: embedding[labels == c].mean(axis=0) for c in range(3)}
    np.testing.assert_allclose(answer[0], centre[1])  # 4²/8 < 3²/4: the larger share wins over the larger number
    np.testing.assert_allclose(answer[1], centre[0])  # 2²/8 > 1²/4
    np.testing.assert_allclose(answer[2], centre[2])  # 2²/8 < 3²/3
    np.testing.assert_allclose(answer[3], embedding.mean(axis=0))


def test_genes_without_a_cluster_do_not_match_each_other(rng, monkeypatch):
    monkeypatch.setattr(module, "louvain_clusters", lambda _: np.repeat([0, 1], [4, 3]))
    known = evidence(np.zeros((7, R)), [UNCLUSTERED] * 4 + [2] * 3)
    embedding = rng.standard_normal((7, E))
    answer = cluster(known, embedding, evidence(np.zeros((1, R)), [UNCLUSTERED]))
    np.testing.assert_allclose(answer[0], embedding.mean(axis=0))


def test_cluster_finds_separated_groups_of_effects(rng):
    group = np.repeat([0, 1], 12)
    embedding = 5 * np.eye(E)[group] + 0.1 * rng.standard_normal((24, E))
    answer = cluster(evidence(np.zeros((24, R)), group), embedding, evidence(np.zeros((2, R)), [0, 1]))
    np.testing.assert_allclose(answer, 5 * np.eye(E)[:2], atol=0.2)
