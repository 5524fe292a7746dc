"""Latent diffusion: torch and diffusers only. Says z, t, condition; knows no perturbation, gene or cell type."""

from dbdiffusion.diffusion._denoiser import VELOCITY, Denoiser, GaussianDenoiser, Parametrisation, noise_schedule
from dbdiffusion.diffusion._guidance import GuidedDenoiser
from dbdiffusion.diffusion._latent import LatentDiffusion, draw_noise
from dbdiffusion.diffusion._network import ResidualMLP
from dbdiffusion.diffusion._sampler import SAMPLERS, STOCHASTIC, check_sampler, sample, steps_of

__all__ = [
    "SAMPLERS",
    "STOCHASTIC",
    "VELOCITY",
    "Denoiser",
    "GaussianDenoiser",
    "GuidedDenoiser",
    "LatentDiffusion",
    "Parametrisation",
    "ResidualMLP",
    "check_sampler",
    "draw_noise",
    "noise_schedule",
    "sample",
    "steps_of",
]
