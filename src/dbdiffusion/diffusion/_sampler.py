"""The reverse process, by the schedulers of diffusers behind one thin adapter.

Randomness is handed in, never drawn here, so that a caller can share it between conditions (common random numbers) and
so that a cell does not depend on which other cells were sampled with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from dbdiffusion.diffusion._denoiser import N_TRAIN_STEPS, betas

if TYPE_CHECKING:
    from collections.abc import Callable

_COMMON = {"num_train_timesteps": N_TRAIN_STEPS, "prediction_type": "sample", "thresholding": False}
_GRID_POWER = 1.2  # above 1 the steps are denser where there is little noise, which narrow directions of the latent need


def _dpm(algorithm: str) -> tuple[Any, dict[str, Any]]:
    options = {**_COMMON, "solver_type": "heun", "algorithm_type": algorithm}
    return DPMSolverMultistepScheduler(trained_betas=betas(), **options), {}


def _ddim(eta: float) -> tuple[Any, dict[str, Any]]:
    options = {**_COMMON, "clip_sample": False, "timestep_spacing": "trailing"}
    return DDIMScheduler(trained_betas=betas(), **options), {"eta": eta}


SAMPLERS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "dpm++": lambda: _dpm("dpmsolver++"),
    "sde-dpm++": lambda: _dpm("sde-dpmsolver++"),
    "ddim": lambda: _ddim(eta=0.0),
    "ddpm": lambda: _ddim(eta=1.0),  # DDIM at eta 1 is the ancestral sampler
}
STOCHASTIC = frozenset({"sde-dpm++", "ddpm"})
_FEWEST_STEPS = {"dpm++": 15, "sde-dpm++": 40, "ddim": 100, "ddpm": 200}


def steps_of(sampler: str, n_steps: int | None = None) -> int:
    """Steps of a sampler: as many as asked for or, for None, the fewest that keep a Gaussian's moments within 3 %.

    Raises
    ------
    ValueError
        As :func:`check_sampler`.

    Examples
    --------
    >>> steps_of("dpm++"), steps_of("ddpm"), steps_of("dpm++", 30)
    (15, 200, 30)
    """
    n_steps = _FEWEST_STEPS.get(sampler, N_TRAIN_STEPS) if n_steps is None else n_steps
    check_sampler(sampler, n_steps)
    return n_steps


def check_sampler(sampler: str, n_steps: int) -> None:
    """Raise a worded ``ValueError`` unless the sampler is known and the number of steps possible.

    Examples
    --------
    >>> check_sampler("dpm++", 20)
    """
    if not isinstance(sampler, str) or sampler not in SAMPLERS:
        msg = f"`sampler` must be one of {sorted(SAMPLERS)}, got {sampler!r}."
        raise ValueError(msg)
    if not isinstance(n_steps, int | np.integer) or not 2 <= n_steps <= N_TRAIN_STEPS:
        msg = f"`n_steps` must lie between 2 and {N_TRAIN_STEPS}, got {n_steps!r}."
        raise ValueError(msg)
    if sampler in ("ddim", "ddpm") and N_TRAIN_STEPS % n_steps:
        msg = f"`n_steps` of {sampler!r} must divide {N_TRAIN_STEPS} (its steps are equal), got {n_steps!r}."
        raise ValueError(msg)


@torch.no_grad()
def sample(
    denoiser: Callable[[Tensor, Tensor, Any], Tensor],
    condition: Any,
    noise: Tensor,
    sampler: str = "dpm++",
    n_steps: int | None = None,
) -> Tensor:
    """Draw clean latents.

    Parameters
    ----------
    denoiser
        Callable ``(z_t, t, condition) -> z_0``; it is handed one time, (1,), for all latents.
    condition
        Handed to the denoiser as it is, usually (B, E).
    noise
        Standard normal, (1, B, D) for the deterministic samplers ``"dpm++"`` and ``"ddim"``, (1 + n_steps, B, D) for the
        stochastic ``"sde-dpm++"`` and ``"ddpm"`` (the ancestral sampler of Ho et al. 2020).
    sampler
        One of ``"dpm++"``, ``"sde-dpm++"``, ``"ddim"``, ``"ddpm"``.
    n_steps
        Steps of the reverse process, each one pass of the denoiser; a divisor of 1,000 for ``"ddim"`` and ``"ddpm"``. None: the
        fewest that keep a Gaussian's moments within 3 %, see :func:`steps_of`.

    Returns
    -------
    Tensor
        Latents (B, D).

    References
    ----------
    Lu et al., DPM-Solver++, arXiv 2211.01095; Song et al., DDIM, arXiv 2010.02502.

    Examples
    --------
    >>> from dbdiffusion.diffusion import GaussianDenoiser
    >>> oracle = GaussianDenoiser(torch.zeros(2), torch.eye(2))
    >>> sample(oracle, None, torch.zeros(1, 3, 2), n_steps=5)
    tensor([[0., 0.],
            [0., 0.],
            [0., 0.]])
    """
    n_steps = steps_of(sampler, n_steps)
    scheduler, options = SAMPLERS[sampler]()
    if sampler in ("ddim", "ddpm"):
        scheduler.set_timesteps(n_steps, device=noise.device)
    else:
        scheduler.set_timesteps(timesteps=_time_grid(n_steps), device=noise.device)
    z = noise[0]
    for k, t in enumerate(scheduler.timesteps):
        z_0 = denoiser(z, t[None], condition)
        step_noise = noise[k + 1] if sampler in STOCHASTIC else None
        z = scheduler.step(z_0, t, z, variance_noise=step_noise, **options).prev_sample
    return z


def _time_grid(n_steps: int) -> list[int]:
    """Falling times from T - 1, spaced by a power law and never twice the same."""
    order = np.arange(n_steps)
    times = np.round((N_TRAIN_STEPS - 1) * ((order + 1) / n_steps) ** _GRID_POWER).astype(int)
    return (np.maximum.accumulate(times - order) + order)[::-1].tolist()
