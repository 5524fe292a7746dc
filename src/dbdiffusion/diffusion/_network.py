"""The raw network: a residual MLP whose blocks are scaled and shifted (FiLM) by time and condition."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dbdiffusion.diffusion._products import activated_product, added_product, product, silu


class ResidualMLP(nn.Module):
    """Residual MLP with FiLM conditioning, from a noisy latent to a vector of the same size.

    Parameters
    ----------
    n_latent
        D, size of the latent.
    n_condition
        E, size of the condition.
    n_hidden
        H, width of the residual stream.
    n_blocks
        Residual blocks.

    References
    ----------
    Perez et al., FiLM: Visual Reasoning with a General Conditioning Layer, AAAI 2018.

    Examples
    --------
    >>> network = ResidualMLP(n_latent=5, n_condition=3, n_hidden=16, n_blocks=1)
    >>> z, t = torch.zeros(7, 5), torch.zeros(7)
    >>> network(z, t, network.embed_condition(torch.zeros(7, 3))).shape
    torch.Size([7, 5])
    """

    no_film: Tensor

    def __init__(self, n_latent: int, n_condition: int, n_hidden: int = 256, n_blocks: int = 3) -> None:
        super().__init__()
        self.n_hidden = n_hidden
        self.inlet = nn.Linear(n_latent, n_hidden)
        self.time = nn.Sequential(_Fourier(n_hidden // 2), nn.Linear(n_hidden // 2, n_hidden))
        self.condition = nn.Linear(n_condition, n_hidden)
        self.null_condition = nn.Parameter(0.02 * torch.randn(n_hidden))
        self.blocks = nn.ModuleList(_Block(n_hidden) for _ in range(n_blocks))
        self.film = nn.Linear(n_hidden, 2 * n_hidden * n_blocks)
        no_film = torch.cat([torch.ones(n_hidden), torch.zeros(n_hidden)]).repeat(n_blocks)  # scale by one, shift by nothing
        self.register_buffer("no_film", no_film, persistent=False)
        last = nn.Linear(n_hidden, n_latent)
        self.outlet = nn.Sequential(nn.LayerNorm(n_hidden), nn.SiLU(), last)
        for layer in (self.film, last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def embed_condition(self, condition: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Condition (B, E) to the hidden vector (B, H) that :meth:`forward` takes; null where ``dropped`` (B, 1)."""
        if dropped is None:
            return self.condition(condition)
        null = self.null_condition - self.condition.bias  # one more input: choosing afterwards costs several passes over (B, H)
        weight = torch.cat([self.condition.weight, null[:, None]], dim=1)
        inputs = torch.cat([condition * ~dropped, dropped.to(condition.dtype)], dim=1)
        return nn.functional.linear(inputs, weight, self.condition.bias)

    def forward(self, z_t: Tensor, t: Tensor, hidden_condition: Tensor) -> Tensor:
        """Noisy latent (B, D), time in [0, 1] (B,) and embedded condition (B, H) to (B, D).

        Leading dimensions broadcast: FiLM, half of the work, is done once for cells that share time and condition.
        """
        context = silu(self.time(t) + hidden_condition)  # (B, H)
        bias = self.film.bias + self.no_film  # of the product, and not of what it gives: a pass over (B, H) less a block
        films = product(context, self.film.weight, bias).chunk(len(self.blocks), dim=-1)  # n_blocks x (B, 2H)
        h = product(z_t.to(hidden_condition.dtype), self.inlet.weight, self.inlet.bias)
        for block, film in zip(self.blocks, films, strict=True):
            h = block(h, film)
        norm, _, last = self.outlet
        return product(silu(norm(h)), last.get_parameter("weight"), last.get_parameter("bias"))


class _Block(nn.Module):
    def __init__(self, n_hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_hidden, elementwise_affine=False)
        self.first = nn.Linear(n_hidden, n_hidden)
        self.second = nn.Linear(n_hidden, n_hidden)

    def forward(self, h: Tensor, film: Tensor) -> Tensor:
        """The residual stream (B, H) after this block, scaled and shifted by FiLM (B, 2H) on its way through."""
        scale, shift = film.chunk(2, dim=-1)
        conditioned = torch.addcmul(shift, self.norm(h), scale)
        return added_product(activated_product(conditioned, self.first), self.second, h)


class _Fourier(nn.Module):
    """Sines and cosines of the time, geometric frequencies."""

    frequencies: Tensor

    def __init__(self, n_features: int) -> None:
        super().__init__()
        frequencies = torch.exp(torch.linspace(0.0, math.log(1000.0), n_features // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """Times in [0, 1] (B,) to features (B, n_features)."""
        angles = t[..., None].float() * self.frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)
