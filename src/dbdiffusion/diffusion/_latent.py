"""Latent diffusion with its linear part outside the network.

The network diffuses the standardised remainder x = (z_0 - mean - (c - origin) W) / scale, where W maps a condition to a
mean shift of the latent. Generation adds the linear part back, so that a condition never seen extrapolates linearly and
the network has only shape and curvature to learn.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dbdiffusion.diffusion._denoiser import Denoiser, Parametrisation
from dbdiffusion.diffusion._guidance import GuidedDenoiser
from dbdiffusion.diffusion._sampler import STOCHASTIC, sample, steps_of


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
