"""Latent diffusion: torch and diffusers only. Says z, t, condition; knows no perturbation, gene or cell type."""

from dbdiffusion.diffusion._denoiser import VELOCITY, Denoiser, GaussianDenoiser, Parametrisation, ResidualMLP, noise_schedule
from dbdiffusion.diffusion._latent import (
    SAMPLERS,
    STOCHASTIC,
    GuidedDenoiser,
    LatentDiffusion,
    check_sampler,
    draw_noise,
    sample,
    steps_of,
)

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
