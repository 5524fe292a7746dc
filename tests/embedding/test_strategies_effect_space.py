import numpy as np
import pytest
from sklearn.decomposition import PCA

from dbdiffusion.embedding import fit_effect_space

K, G, E = 7, 11, 3


@pytest.fixture
def effect():
    return np.random.default_rng(0).standard_normal((K, G)) * np.linspace(0.5, 2, G)


@pytest.fixture
def noise():
    return np.random.default_rng(1).uniform(0.5, 2, G)


def test_scores_are_those_of_pca_on_scaled_effects(effect, noise):
    space = fit_effect_space(effect, noise, E)
    expected = PCA(E).fit_transform(effect / space.gene_scale)
    np.testing.assert_allclose(np.abs(space.to_embedding(effect)), np.abs(expected), atol=1e-10)
    np.testing.assert_allclose(space.components @ space.components.T, np.eye(E), atol=1e-12)


def test_all_components_lose_nothing(effect, noise):
    space = fit_effect_space(effect, noise, 64)
    assert len(space.components) == K - 1
    np.testing.assert_allclose(space.to_effect(space.to_embedding(effect)), effect, atol=1e-10)


def test_the_two_maps_are_inverse_on_embeddings(effect, noise):
    space = fit_effect_space(effect, noise, E)
    embedding = np.random.default_rng(2).standard_normal((5, E))
    np.testing.assert_allclose(space.to_embedding(space.to_effect(embedding)), embedding, atol=1e-10)


def test_control_is_the_embedding_of_no_effect(effect, noise):
    space = fit_effect_space(effect, noise, 64)
    np.testing.assert_allclose(space.control, -(effect.mean(axis=0) / space.gene_scale) @ space.components.T)
    mean_effect = effect.mean(axis=0)
    np.testing.assert_allclose(space.to_embedding(mean_effect[None])[0], 0, atol=1e-12)


def test_a_noisy_gene_does_not_make_a_component(effect):
    noisy = effect.copy()
    noisy[:, 4] *= 50
    noise = np.ones(G)
    noise[4] = 2500.0
    quiet, loud = (fit_effect_space(noisy, one, 1).components[0, 4] for one in (noise, np.ones(G)))
    assert abs(quiet) < 0.6
    assert abs(loud) > 0.99


def test_no_noise_at_all_means_no_scaling(effect):
    assert np.array_equal(fit_effect_space(effect, np.zeros(G), E).gene_scale, np.ones(G))


def test_a_gene_without_noise_is_not_divided_by_zero(effect, noise):
    noise[2] = 0
    space = fit_effect_space(effect, noise, E)
    assert np.isfinite(space.to_embedding(effect)).all()
    assert space.gene_scale.min() > 0


def test_signs_do_not_depend_on_the_sign_the_svd_returns(effect, noise):
    components = fit_effect_space(effect, noise, E).components
    assert (components[np.arange(E), np.abs(components).argmax(axis=1)] > 0).all()


@pytest.mark.parametrize(("n_perturbations", "asked", "got"), [(7, 64, 6), (7, 2, 2), (2, 5, 1), (1, 5, 1), (20, 64, 11)])
def test_components_never_exceed_what_the_data_hold(n_perturbations, asked, got):
    effect = np.random.default_rng(0).standard_normal((n_perturbations, G))
    assert fit_effect_space(effect, np.ones(G), asked).components.shape == (got, G)
