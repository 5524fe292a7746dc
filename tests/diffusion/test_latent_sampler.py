import itertools

import pytest
import torch
from diffusers import DDPMScheduler

from dbdiffusion.diffusion import SAMPLERS, STOCHASTIC, GaussianDenoiser, draw_noise, noise_schedule, sample, steps_of
from dbdiffusion.diffusion._latent import _time_grid

D = 5


@pytest.fixture(scope="module")
def oracle():
    return gaussian(0.5, 1.3)


def gaussian(smallest_sd, largest_sd):
    torch.manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(D, D))
    sd = torch.linspace(smallest_sd, largest_sd, D)
    return GaussianDenoiser(torch.linspace(-1.5, 1.5, D), rotation @ torch.diag(sd**2) @ rotation.T)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_exact_denoiser_reproduces_mean_and_covariance(oracle, sampler):
    z = sample(oracle, None, draw_noise(40_000, D, sampler, None, seed=0), sampler)
    assert (z.mean(0) - oracle.mean).abs().max() < 0.03
    assert deviations(oracle, torch.cov(z.T)).abs().max() < 0.03


def deviations(oracle, covariance):
    """Standard deviations along the axes of the oracle, relative to its own, less 1."""
    return ((oracle.eigenvectors.T @ covariance @ oracle.eigenvectors).diag() / oracle.eigenvalues).sqrt() - 1


def exact_moments(oracle, n_steps):
    """The default sampler of a Gaussian is affine in the noise, so its moments need no cells."""
    z = sample(oracle, None, torch.cat([torch.zeros(1, D), torch.eye(D)])[None], n_steps=n_steps)
    return z[0], (z[1:] - z[0]).T @ (z[1:] - z[0])


def test_default_steps_are_enough_for_narrow_directions_too():
    oracle = gaussian(0.25, 1.6)
    mean, covariance = exact_moments(oracle, None)
    assert (mean - oracle.mean).abs().max() < 0.03
    assert deviations(oracle, covariance).abs().max() < 0.03


def test_fewer_than_the_default_steps_are_not():
    oracle = gaussian(0.25, 1.6)
    assert deviations(oracle, exact_moments(oracle, steps_of("dpm++") - 1)[1]).abs().max() > 0.03


@pytest.mark.parametrize("n_steps", [2, 3, 15, 25, 299, 640, 1000])
def test_times_fall_from_the_last_to_the_first(n_steps):
    times = _time_grid(n_steps)
    assert len(times) == n_steps
    assert times[0] == 999
    assert times[-1] >= 0
    assert all(a > b for a, b in itertools.pairwise(times))


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


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_solvers_have_the_schedule_that_the_denoiser_was_trained_with(sampler):
    scheduler, _ = SAMPLERS[sampler]()
    usual = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2").alphas_cumprod
    assert torch.equal(scheduler.alphas_cumprod, usual)
    assert torch.equal(noise_schedule()[0], usual.sqrt())
