r"""The denoiser: from a noisy latent to the expected clean one, E[z_0 | z_t, condition].

Noising law (variance preserving): :math:`z_t = \alpha_t z_0 + \sigma_t \epsilon`, :math:`\alpha_t^2 + \sigma_t^2 = 1`.
The network sees a latent of unit variance at every t and predicts the velocity :math:`v = \alpha_t \epsilon - \sigma_t z_0`,
so the denoiser is :math:`\alpha_t z_t - \sigma_t v`. Times are the integer steps
0 (nearly clean) ... T - 1 (nearly noise) of the schedule.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


# Products with weights, and what follows each of them in the same pass where the CPU can.
#
# Where a CPU multiplies bfloat16 in hardware, a product takes less time than reading and writing what comes before and after.
# There oneDNN's fused kernels, which torch's own compiler calls too, add the bias, activate and add the residual stream on the
# way. They have no derivative, so training takes the plain operations, and so does every device without those instructions.


_ONEDNN: Any = torch.ops.mkldnn


@cache
def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AMX, AVX512-BF16); False where torch cannot tell.

    Examples
    --------
    >>> has_fast_bfloat16() in (True, False)
    True
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(capabilities.get(name, False)) for name in ("amx_bf16", "avx512_bf16"))


def product(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The plain product h W^T + b, (B, H) to (B, O); torch's own would first write the bias over all of (B, O)."""
    if not _fuses(h):
        return nn.functional.linear(h, weight, bias)
    return _ONEDNN._linear_pointwise(h, weight.to(h.dtype), bias.to(h.dtype), "none", [], "")


def activated_product(h: Tensor, layer: nn.Linear) -> Tensor:
    """SiLU of the layer's product, (B, H) to (B, O)."""
    if not _fuses(h):
        return silu(layer(h))
    return _ONEDNN._linear_pointwise(h, layer.weight.to(h.dtype), layer.bias.to(h.dtype), "swish", [], "")


def added_product(h: Tensor, layer: nn.Linear, stream: Tensor) -> Tensor:
    """The layer's product (B, H) to (B, O), plus a residual stream that broadcasts to it."""
    if not _fuses(h):
        return layer(h).add_(stream)
    stream = stream.expand(*h.shape[:-1], layer.out_features).contiguous()
    return _ONEDNN._linear_pointwise.binary(h, stream, layer.weight.to(h.dtype), layer.bias.to(h.dtype), "add")


def silu(h: Tensor) -> Tensor:
    """In place unless a gradient needs what came in: getting fresh memory can take longer than computing."""
    return nn.functional.silu(h, inplace=not torch.is_grad_enabled())


def _fuses(h: Tensor) -> bool:
    return (
        h.dtype is torch.bfloat16
        and h.device.type == "cpu"
        and not torch.is_grad_enabled()
        and bool(torch.backends.mkldnn.enabled)
        and _has_fused_products()
    )


@cache
def _has_fused_products() -> bool:
    """Whether the kernels are there and work: they are not public, and oneDNN may be told to spare these instructions."""
    if not has_fast_bfloat16():
        return False
    h, weight, bias = (torch.ones(shape, dtype=torch.bfloat16, device="cpu") for shape in ((1, 2), (3, 2), 3))
    try:
        kinds = [_ONEDNN._linear_pointwise(h, weight, bias, kind, [], "") for kind in ("none", "swish")]
        kinds.append(_ONEDNN._linear_pointwise.binary(h, bias[None], weight, bias, "add"))
    except (AttributeError, RuntimeError, TypeError):
        return False
    expected = [3, 3 / (1 + math.exp(-3)), 4]
    return all(abs(kind[0, 0].item() / value - 1) < 0.01 for kind, value in zip(kinds, expected, strict=True))


# The raw network: a residual MLP whose blocks are scaled and shifted (FiLM) by time and condition.


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


N_TRAIN_STEPS = 1000
MIN_WIDTH_OF_BFLOAT16 = 64  # below it, conversions cost more than the products save


def noise_schedule() -> tuple[Tensor, Tensor]:
    """Alpha_t and sigma_t of the cosine schedule, each (T,).

    Examples
    --------
    >>> alpha, sigma = noise_schedule()
    >>> bool(torch.allclose(alpha**2 + sigma**2, torch.ones(1000)))
    True
    """
    alphas_cumprod = (1 - torch.tensor(betas(), dtype=torch.float32)).cumprod(dim=0)
    return alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()


@cache
def betas() -> tuple[float, ...]:
    """Variance that every step adds (T,), kept because diffusers takes thousands of function calls to make it."""
    with torch.device("cpu"):
        scheduler: Any = DDPMScheduler(N_TRAIN_STEPS, beta_schedule="squaredcos_cap_v2")
    return tuple(scheduler.betas.tolist())


@dataclass(frozen=True)
class Parametrisation:
    """What the network learns to predict, and the clean latent that this means.

    Parameters
    ----------
    target
        Of clean latent, noise (B, D), alpha and sigma (B, 1) to what is learned (B, D).
    clean
        Of noisy latent, prediction (B, D), alpha and sigma (B, 1) to the clean latent (B, D).

    Examples
    --------
    Whoever predicts the velocity right knows the clean latent:

    >>> z_0, noise = torch.ones(1, 3), torch.full((1, 3), 0.5)
    >>> alpha, sigma = torch.tensor([[0.8]]), torch.tensor([[0.6]])
    >>> velocity = VELOCITY.target(z_0, noise, alpha, sigma)
    >>> torch.allclose(VELOCITY.clean(alpha * z_0 + sigma * noise, velocity, alpha, sigma), z_0)
    True
    """

    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    clean: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _velocity(z_0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return alpha * noise - sigma * z_0


def _clean_of_velocity(z_t: Tensor, velocity: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    return torch.addcmul(alpha * z_t, sigma, velocity, value=-1)


VELOCITY = Parametrisation(_velocity, _clean_of_velocity)


class Denoiser(nn.Module):
    """E[z_0 | z_t, condition] learned by a :class:`ResidualMLP`.

    Where it is faster (a CPU with instructions for it, and a network of some width) the network computes in bfloat16;
    noising, loss, weights and everything else stay in single precision. Set ``in_bfloat16`` to decide yourself.

    Parameters
    ----------
    n_latent, n_condition, n_hidden, n_blocks
        Passed to :class:`ResidualMLP`.

    Examples
    --------
    >>> denoiser = Denoiser(n_latent=5, n_condition=3, n_hidden=16, n_blocks=1)
    >>> t = torch.full((7,), 10)
    >>> denoiser(torch.zeros(7, 5), t, torch.zeros(7, 3)).shape, denoiser(torch.zeros(7, 5), t, None).shape
    (torch.Size([7, 5]), torch.Size([7, 5]))
    """

    alpha: Tensor
    sigma: Tensor

    def __init__(self, n_latent: int, n_condition: int, n_hidden: int = 256, n_blocks: int = 3) -> None:
        super().__init__()
        self.network = ResidualMLP(n_latent, n_condition, n_hidden, n_blocks)
        self.in_bfloat16: bool | None = None
        self.parametrisation = VELOCITY
        alpha, sigma = noise_schedule()
        self.register_buffer("alpha", alpha, persistent=False)
        self.register_buffer("sigma", sigma, persistent=False)

    def forward(self, z_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """Expected clean latent (B, D); ``condition=None`` is the unconditional one. Leading dimensions broadcast."""
        return self.from_hidden(z_t, t, None if condition is None else self.embed_condition(condition))

    def embed_condition(self, condition: Tensor) -> Tensor:
        """Condition (B, E) to the hidden vector (B, H) that :meth:`from_hidden` takes: it is the same at all times."""
        with self._precision(condition.device):
            return self.network.embed_condition(condition)

    def from_hidden(self, z_t: Tensor, t: Tensor, hidden: Tensor | None) -> Tensor:
        """As :meth:`forward`, of a condition that :meth:`embed_condition` took to (B, H); None is the unconditional one."""
        alpha, sigma = self.alpha[t, None], self.sigma[t, None]
        with self._precision(z_t.device):
            predicted = self.network(z_t, t / N_TRAIN_STEPS, self.network.null_condition if hidden is None else hidden)
        return self.parametrisation.clean(z_t, predicted.to(z_t.dtype), alpha, sigma)

    def loss(self, z_0: Tensor, condition: Tensor, condition_dropout: float) -> Tensor:
        """Squared error of what is predicted (the velocity) at random times, mean over B and D (a scalar).

        A share ``condition_dropout`` of the cells is shown the null condition instead of its own. Times are
        stratified over the minibatch, which lowers the variance of the loss.
        """
        n = len(z_0)
        strata = (torch.randperm(n, device=z_0.device) + torch.rand(n, device=z_0.device)) / n
        t = (strata * N_TRAIN_STEPS).long().clamp_(max=N_TRAIN_STEPS - 1)
        noise = torch.randn_like(z_0)
        alpha, sigma = self.alpha[t, None], self.sigma[t, None]
        dropped = torch.rand(n, 1, device=z_0.device) < condition_dropout
        with self._precision(z_0.device):
            hidden = self.network.embed_condition(condition, dropped)
            predicted = self.network(alpha * z_0 + sigma * noise, t / N_TRAIN_STEPS, hidden).to(z_0.dtype)
        return nn.functional.mse_loss(predicted, self.parametrisation.target(z_0, noise, alpha, sigma))

    def computes_in_bfloat16(self, device: torch.device) -> bool:
        """Whether the network computes in bfloat16 on a device."""
        if self.in_bfloat16 is not None:
            return self.in_bfloat16
        return self.network.n_hidden >= MIN_WIDTH_OF_BFLOAT16 and device.type == "cpu" and has_fast_bfloat16()

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        return torch.autocast(device.type, torch.bfloat16) if self.computes_in_bfloat16(device) else nullcontext()


class GaussianDenoiser(nn.Module):
    r"""The exact denoiser when z_0 is Gaussian: the oracle that tests samplers.

    With :math:`z_0 \sim N(\mu, \Sigma)`,
    :math:`E[z_0|z_t] = \mu + \alpha_t \Sigma (\alpha_t^2 \Sigma + \sigma_t^2 I)^{-1} (z_t - \alpha_t \mu)`.

    Parameters
    ----------
    mean
        Mean of z_0, (D,).
    covariance
        Covariance of z_0, (D, D).

    Examples
    --------
    >>> oracle = GaussianDenoiser(torch.ones(2), torch.eye(2))
    >>> oracle(torch.zeros(1, 2), torch.tensor([999]), None).round(decimals=2)
    tensor([[1., 1.]])
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        super().__init__()
        self.mean = mean
        self.eigenvalues, self.eigenvectors = torch.linalg.eigh(covariance)
        self.alpha, self.sigma = noise_schedule()

    def forward(self, z_t: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """Exact expected clean latent (B, D); the condition, if any, shifts the mean."""
        mean = self.mean if condition is None else self.mean + condition
        alpha, sigma = self.alpha[t, None], self.sigma[t, None]
        gain = alpha * self.eigenvalues / (alpha**2 * self.eigenvalues + sigma**2)
        return mean + (gain * ((z_t - alpha * mean) @ self.eigenvectors)) @ self.eigenvectors.T
