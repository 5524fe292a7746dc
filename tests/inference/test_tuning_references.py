import numpy as np

from dbdiffusion.inference import References
from dbdiffusion.inference._tuning import mean_of_others

K, G, Q = 7, 11, 2


def test_mean_of_others_leaves_oneself_out():
    values = np.random.default_rng(0).standard_normal((Q, K, G))
    expected = np.stack([np.delete(values, i, axis=1).mean(axis=1) for i in range(K)], axis=1)
    np.testing.assert_allclose(mean_of_others(values), expected)


def test_own_genes_are_filled_with_the_mean_of_the_others():
    rng = np.random.default_rng(1)
    effect, predicted = rng.standard_normal((K, G)), rng.standard_normal((K, G))
    own = tuple(np.array([i]) if i < 3 else np.array([], dtype=int) for i in range(K))
    filled = References(effect, np.ones((K, G)), np.ones(G), {"model": predicted}, own).without_own_genes()
    for i in range(3):
        assert np.isclose(filled.effect[i, i], np.delete(effect[:, i], i).mean())
        assert np.isclose(filled.predicted["model"][i, i], np.delete(predicted[:, i], i).mean())
    untouched = np.ones((K, G), dtype=bool)
    untouched[[0, 1, 2], [0, 1, 2]] = False
    assert np.array_equal(filled.effect[untouched], effect[untouched])


def test_chunks_hold_every_gene_once(monkeypatch):
    monkeypatch.setattr("dbdiffusion.inference._tuning.MAX_CHUNK", 3 * K * (1 + Q))
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal((K, G)) for _ in range(1 + Q)]
    references = References(arrays[0], np.ones((K, G)), np.ones(G), {"a": arrays[1], "b": arrays[2]})
    chunks = list(references.gene_chunks())
    assert len(chunks) == 4
    assert np.array_equal(np.concatenate([vectors for _, vectors in chunks], axis=2), np.stack(arrays))


def test_agreement_with_the_controls_error_is_what_is_carried_and_a_deviation_of_chance():
    rng = np.random.default_rng(0)
    predicted, variance = rng.standard_normal((K, G)), 0.04
    references = References(
        predicted, np.ones((K, G)), np.full(G, variance), {"model": predicted}, control_norm_cv=np.sqrt(2 / G)
    )
    errors = np.sqrt(variance) * rng.standard_normal((20_000, G))
    chance = (errors @ predicted.mean(axis=0)).std()
    np.testing.assert_allclose(references.likely_agreement(predicted, 0.0), chance, rtol=0.02)
    norm = (errors**2).sum(axis=1)
    np.testing.assert_allclose(references.likely_agreement(predicted, 1.0), norm.mean() + norm.std(), rtol=0.02)
    half = references.likely_agreement(predicted, 0.5)
    np.testing.assert_allclose(half, (norm.mean() + norm.std() + chance) / 2, rtol=0.02)


def test_the_noise_of_a_gene_is_that_of_other_references_and_of_the_control_beside_the_middle_gene():
    rng = np.random.default_rng(3)
    variance, control = rng.uniform(0.5, 2, (K, G)), rng.uniform(0.1, 0.2, G)
    own = tuple(np.array([i]) for i in range(K))
    nothing = np.zeros((K, G))
    noise = References(nothing, variance, control, {}, own).typical_noise
    of_others = [np.delete(variance[:, g], g).mean() if g < K else variance[:, g].mean() for g in range(G)]
    order = np.argsort(np.array(of_others) + control)
    assert (np.diff(noise[order]) > 0).all()
    assert np.isclose(np.median(noise), 1)
    spoiled = variance.copy()
    spoiled[np.arange(K), np.arange(K)] = 1e6
    np.testing.assert_array_equal(References(nothing, spoiled, control, {}, own).typical_noise, noise)
    np.testing.assert_allclose(References(nothing, 9 * variance, 9 * control, {}, own).typical_noise, noise)


def test_noise_that_is_not_known_is_that_of_the_middle_gene():
    variance = np.random.default_rng(4).uniform(0.5, 2, (K, G))
    own = tuple(np.array([3]) for _ in range(K))
    variance[:, 5] = np.nan
    noise = References(np.zeros((K, G)), variance, np.zeros(G), {}, own).typical_noise
    assert np.allclose(noise[[3, 5]], 1)
    assert np.isfinite(noise).all()


def test_a_gene_without_noise_has_some_and_where_none_is_known_all_are_alike():
    silent = np.where(np.arange(G) == 2, 0.0, 1.0)
    noise = References(np.zeros((K, G)), np.tile(silent, (K, 1)), 0 * silent, {}).typical_noise
    assert 0.1 < noise[2] < 0.3
    assert (References(np.zeros((K, G)), np.zeros((K, G)), np.zeros(G), {}).typical_noise == 1).all()
