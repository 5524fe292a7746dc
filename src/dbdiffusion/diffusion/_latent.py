"""Latent diffusion with its linear part outside the network.

The network diffuses the standardised remainder x = (z_0 - mean - (c - origin) W) / scale, where W maps a condition to a
mean shift of the latent. Generation adds the linear part back, so that a condition never seen extrapolates linearly and
the network has only shape and curvature to learn.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dbdiffusion.diffusion._denoiser import N_TRAIN_STEPS, Denoiser, Parametrisation, betas

if TYPE_CHECKING:
    from collections.abc import Callable


# Classifier-free guidance as a denoiser that wraps a denoiser; samplers never hear of it.


class GuidedDenoiser(nn.Module):
    """``null + scale * (conditional - null)``.

    Scale 1 is no guidance (one network pass), 0 the unconditional denoiser (one pass). Other conventions: the paper's
    eta and Ho & Salimans' w are ``scale - 1``.

    Parameters
    ----------
    denoiser
        Callable ``(z_t, t, condition or None) -> z_0``.
    scale
        Guidance scale, not negative.

    Raises
    ------
    ValueError
        If ``scale`` is negative or not finite.

    References
    ----------
    Ho & Salimans, Classifier-Free Diffusion Guidance, arXiv 2207.12598.

    Examples
    --------
    >>> shift = lambda z, t, c: z if c is None else z + c
    >>> GuidedDenoiser(shift, 2.0)(torch.zeros(1, 1), torch.zeros(1, dtype=torch.long), torch.ones(1, 1))
    tensor([[2.]])
    """

    def __init__(self, denoiser: Callable[[Tensor, Tensor, Tensor | None], Tensor], scale: float) -> None:
        super().__init__()
        if not 0 <= scale < float("inf"):
            msg = f"`guidance_scale` must be finite and not negative (1 is none), got {scale!r}."
            raise ValueError(msg)
        self.denoiser = denoiser
        self.scale = scale

    def forward(self, z_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Guided clean latent (B, D) for latent (B, D), times (B,) or (1,), and condition (B, E)."""
        if self.scale == 1:
            return self.denoiser(z_t, t, condition)
        if self.scale == 0:
            return self.denoiser(z_t, t, None)
        return torch.lerp(self.denoiser(z_t, t, None), self.denoiser(z_t, t, condition), self.scale)


# The reverse process, by the schedulers of diffusers behind one thin adapter.
#
# Randomness is handed in, never drawn here, so that a caller can share it between conditions (common random numbers) and
# so that a cell does not depend on which other cells were sampled with it.


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


class LatentDiffusion(nn.Module):
    """Denoiser, its moving average, and the statistics that standardise latent and condition.

    All of it is parameters and buffers of shapes fixed at construction, so a state dict carries everything.

    Parameters
    ----------
    n_latent, n_condition, n_hidden, n_blocks
        D, E, and the size of the network (see :class:`~dbdiffusion.diffusion.ResidualMLP`).

    Examples
    --------
    >>> diffusion = LatentDiffusion(n_latent=5, n_condition=3, n_hidden=16, n_blocks=1)
    >>> diffusion.sample(torch.zeros(7, 3), torch.randn(1, 7, 5), n_steps=3).shape
    torch.Size([7, 5])
    """

    mean: Tensor
    scale: Tensor
    linear: Tensor
    origin: Tensor
    condition_scale: Tensor
    null_shift: Tensor
    is_fitted: Tensor

    def __init__(self, n_latent: int, n_condition: int, n_hidden: int = 256, n_blocks: int = 3) -> None:
        super().__init__()
        self.denoiser = Denoiser(n_latent, n_condition, n_hidden, n_blocks)
        self.averaged = copy.deepcopy(self.denoiser).requires_grad_(requires_grad=False)
        self.register_buffer("mean", torch.zeros(n_latent))
        self.register_buffer("scale", torch.ones(n_latent))
        self.register_buffer("linear", torch.zeros(n_condition, n_latent))
        self.register_buffer("origin", torch.zeros(n_condition))
        self.register_buffer("condition_scale", torch.ones(n_condition))
        self.register_buffer("null_shift", torch.zeros(n_latent))
        self.register_buffer("is_fitted", torch.tensor(False))

    @torch.no_grad()
    def reset(self) -> None:
        """Draw fresh weights (from the global generator) and start the moving average from them."""
        fresh = Denoiser(*_sizes(self.denoiser))
        self.denoiser.load_state_dict(fresh.state_dict())
        self.averaged.load_state_dict(fresh.state_dict())
        self.is_fitted.fill_(False)

    @property
    def has_linear_part(self) -> bool:
        """Whether the statistics were filled, so that training can go on from the present weights."""
        return bool((self.scale != 1).any())

    @torch.no_grad()
    def forget_linear_part(self) -> None:
        """Put the statistics back to what they were before training; the weights stay."""
        self.scale.fill_(1.0)
        self.condition_scale.fill_(1.0)
        for statistic in (self.mean, self.linear, self.origin, self.null_shift):
            statistic.zero_()
        self.is_fitted.fill_(False)

    @torch.no_grad()
    def set_linear_part(
        self,
        mean: Tensor,
        scale: Tensor,
        linear: Tensor,
        origin: Tensor,
        condition_scale: Tensor,
        null_shift: Tensor,
    ) -> None:
        """Fill the buffers.

        Parameters
        ----------
        mean, scale
            (D,) of the remainder.
        linear
            W (E, D).
        origin, condition_scale
            (E,) of the condition.
        null_shift
            (D,) mean linear part of the training cells.
        """
        for name, value in locals().copy().items():
            if name != "self":
                getattr(self, name).copy_(value)

    def standardise(self, z: Tensor, condition: Tensor) -> Tensor:
        """Latent (B, D) of cells under a condition (B, E) to what the network diffuses (B, D)."""
        return (z - self.mean - (condition - self.origin) @ self.linear) / self.scale

    def scale_condition(self, condition: Tensor) -> Tensor:
        """Condition (B, E) to what the network sees of it (B, E)."""
        return (condition - self.origin) / self.condition_scale

    def restore(self, x: Tensor, condition: Tensor, guidance_scale: float = 1.0) -> Tensor:
        """Inverse of :meth:`standardise`; guidance moves the linear part as it moves the remainder.

        The unconditional linear part is the mean one of the training cells.
        """
        shift = torch.lerp(self.null_shift, (condition - self.origin) @ self.linear, guidance_scale)
        return x * self.scale + self.mean + shift

    def use_bfloat16(self, choice: bool | None) -> None:
        """Whether the network computes in bfloat16; None (as at first) means where that is faster, see :class:`Denoiser`."""
        self.denoiser.in_bfloat16 = self.averaged.in_bfloat16 = choice

    def use_parametrisation(self, choice: Parametrisation) -> None:
        """What the network predicts, to be said before it is trained; :data:`VELOCITY` at first."""
        self.denoiser.parametrisation = self.averaged.parametrisation = choice

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the averaged weights towards the current ones."""
        move = get_ema_multi_avg_fn(decay)
        move(list(self.averaged.parameters()), list(self.denoiser.parameters()), None)

    @torch.no_grad()
    def sample(
        self,
        condition: Tensor,
        noise: Tensor,
        guidance_scale: float = 1.0,
        sampler: str = "dpm++",
        n_steps: int | None = None,
    ) -> Tensor:
        """Latents (B, D) for conditions (B, E); ``noise`` as :func:`~dbdiffusion.diffusion.sample` takes it.

        Leading dimensions broadcast: T conditions (T, 1, E) and noise (1, 1, S, D) give (T, S, D), S cells of each that share
        their noise, at the cost of one FiLM a condition.
        """
        denoiser = GuidedDenoiser(self.averaged.from_hidden, guidance_scale)
        hidden = self.averaged.embed_condition(self.scale_condition(condition))
        x = sample(denoiser, hidden, noise, sampler, n_steps)
        return self.restore(x, condition, guidance_scale)


def draw_noise(n_cells: int, n_latent: int, sampler: str, n_steps: int | None, seed: int) -> Tensor:
    """Standard normal noise (1 or 1 + n_steps, n_cells, D) as the sampler needs it, from its own generator.

    Examples
    --------
    >>> draw_noise(4, 2, "dpm++", 10, seed=0).shape, draw_noise(4, 2, "ddpm", 10, seed=0).shape
    (torch.Size([1, 4, 2]), torch.Size([11, 4, 2]))
    """
    generator = torch.Generator().manual_seed(seed)
    n_draws = 1 + steps_of(sampler, n_steps) if sampler in STOCHASTIC else 1
    return torch.randn((n_draws, n_cells, n_latent), generator=generator)


def _sizes(denoiser: Denoiser) -> tuple[int, int, int, int]:
    network = denoiser.network
    return (
        network.inlet.in_features,
        network.condition.in_features,
        network.n_hidden,
        len(network.blocks),
    )
