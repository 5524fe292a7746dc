import numpy as np
import pytest

from dbdiffusion.diffusion import LatentDiffusion
from dbdiffusion.predict import GenerationOptions, latents_at_once


@pytest.fixture
def generator(trained):
    return trained.predictor().generator


def inputs(trained, names):
    space = trained.predictor().space
    return space.embed(names), space.control


PLAIN = GenerationOptions()


def test_effects_do_not_depend_on_chunks(trained, unseen, generator):
    names = [*unseen, *trained.perturbation_names[:3]]
    embeddings, control = inputs(trained, names)
    one = generator.effects(embeddings, control, 100, PLAIN, n_at_once=1)[0]
    many = generator.effects(embeddings, control, 100, PLAIN, n_at_once=4)[0]
    assert np.allclose(one, many, atol=1e-5)


def test_control_against_itself_is_zero(trained, generator):
    _, control = inputs(trained, [])
    effect, noise = generator.effects(control[None], control, 64, PLAIN)
    assert np.abs(effect).max() < 1e-6
    assert noise.max() < 1e-9


def test_monte_carlo_error_is_what_seeds_differ_by(trained, unseen, generator):
    embeddings, control = inputs(trained, unseen)
    draws, errors = [], []
    for seed in range(30):
        effect, noise = generator.effects(embeddings, control, 40, GenerationOptions(seed=seed))
        draws.append(effect)
        errors.append(noise)
    ratio = np.var(draws, axis=0, ddof=1).sum() / np.mean(errors, axis=0).sum()
    assert 0.6 < ratio < 1.6


def test_integrated_counts_agree_with_sampled_ones(trained, unseen, generator):
    embeddings, control = inputs(trained, unseen[:1])
    effect = generator.effects(embeddings, control, 1024, PLAIN)[0][0]
    means = []
    for embedding, name in ((embeddings[0], unseen[0]), (control, "control")):
        blocks = zip(*generator.counts(embedding, 4096, name, PLAIN), strict=True)
        counts, matched = (np.concatenate(block) for block in blocks)
        library = generator.screen.library[matched]
        means.append(np.log1p(1e4 * counts / library[:, None]))
    sampled = means[0].mean(0) - means[1].mean(0)
    error = np.sqrt(means[0].var(0) / 4096 + means[1].var(0) / 4096)
    assert ((sampled - effect) / error).std() < 1.5


@pytest.mark.parametrize(("n_hidden", "bfloat16", "expected"), [(128, False, 8192), (128, True, 16384), (256, True, 8192)])
def test_a_layer_of_latents_sampled_together_always_takes_the_same_memory(n_hidden, bfloat16, expected):
    diffusion = LatentDiffusion(5, 3, n_hidden=n_hidden, n_blocks=1)
    diffusion.use_bfloat16(bfloat16)
    assert latents_at_once(diffusion) == expected
