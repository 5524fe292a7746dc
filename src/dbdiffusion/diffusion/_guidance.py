"""Classifier-free guidance as a denoiser that wraps a denoiser; samplers never hear of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


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
