import pytest
import torch

from dbdiffusion.diffusion import SAMPLERS, STOCHASTIC, GaussianDenoiser, draw_noise, sample

D = 5
STEPS = {"dpm++": 25, "sde-dpm++": 30, "ddim": 200, "ddpm": 500}


@pytest.fixture(scope="module")
def oracle():
    torch.manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(D, D))
    sd = torch.linspace(0.5, 1.3, D)
    return GaussianDenoiser(torch.linspace(-1.5, 1.5, D), rotation @ torch.diag(sd**2) @ rotation.T)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_exact_denoiser_reproduces_mean_and_covariance(oracle, sampler):
    noise = draw_noise(40_000, D, sampler, STEPS[sampler], seed=0)
    z = sample(oracle, None, noise, sampler, STEPS[sampler])
    assert (z.mean(0) - oracle.mean).abs().max() < 0.03
    variance = (oracle.eigenvectors.T @ torch.cov(z.T) @ oracle.eigenvectors).diag()
    ratio = (variance / oracle.eigenvalues).sqrt()
    assert ratio.min() > 0.97
    assert ratio.max() < 1.03


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_a_cell_does_not_depend_on_its_neighbours(oracle, sampler):
    noise = draw_noise(8, D, sampler, 10, seed=0)
    together = sample(oracle, None, noise, sampler, 10)
    alone = sample(oracle, None, noise[:, 3:4], sampler, 10)
    assert torch.allclose(together[3:4], alone, atol=1e-5)


def test_noise_is_seeded_and_as_long_as_needed():
    assert torch.equal(draw_noise(3, D, "dpm++", 10, 4), draw_noise(3, D, "dpm++", 10, 4))
    assert not torch.equal(draw_noise(3, D, "dpm++", 10, 4), draw_noise(3, D, "dpm++", 10, 5))
    assert {s: len(draw_noise(3, D, s, 10, 0)) for s in SAMPLERS} == {s: 11 if s in STOCHASTIC else 1 for s in SAMPLERS}


@pytest.mark.parametrize(("sampler", "n_steps"), [("euler", 10), ("dpm++", 1), ("dpm++", 1001), ("ddim", 30)])
def test_impossible_options_are_refused(oracle, sampler, n_steps):
    with pytest.raises(ValueError, match=r"sampler|n_steps"):
        sample(oracle, None, torch.zeros(1, 2, D), sampler, n_steps)
