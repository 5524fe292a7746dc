import numpy as np
import pytest

from dbdiffusion.predict._pool_weights import restricted_sets

K = 6


@pytest.fixture
def sets():
    weights = np.zeros((K, K))
    weights[0, 1:5] = 0.25
    weights[1, [0, 2]] = 0.5
    weights[2:, 0] = 1
    return {"cluster": weights}


def test_auto_offers_everything_and_few_references_weigh_alike(sets):
    members = np.arange(K)
    answer = restricted_sets(sets, members, "auto", own=members)
    assert list(answer) == ["all", "cluster"]
    assert answer["all"] is None
    np.testing.assert_allclose(answer["cluster"][0], sets["cluster"][0])
    np.testing.assert_allclose(answer["cluster"][1], [0.2, 0, 0.2, 0.2, 0.2, 0.2])


def test_what_a_user_asks_for_is_kept(sets):
    assert list(restricted_sets(sets, np.arange(K), "all")) == ["all"]
    answer = restricted_sets(sets, np.arange(K), "cluster", own=np.arange(K))
    assert list(answer) == ["cluster"]
    np.testing.assert_allclose(answer["cluster"][1], sets["cluster"][1])


def test_weights_are_shared_among_the_members(sets):
    members = np.array([1, 2, 5])
    answer = restricted_sets(sets, members, "cluster")["cluster"]
    np.testing.assert_allclose(answer[0], [0.5, 0.5, 0])
    np.testing.assert_allclose(answer[2], 1 / 3)  # its only reference is not a member
    np.testing.assert_allclose(answer.sum(axis=1), 1)
