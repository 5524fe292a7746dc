r"""The denoiser: from a noisy latent to the expected clean one, E[z_0 | z_t, condition].

Noising law (variance preserving): :math:`z_t = \alpha_t z_0 + \sigma_t \epsilon`, :math:`\alpha_t^2 + \sigma_t^2 = 1`.
The network sees a latent of unit variance at every t and predicts the velocity :math:`v = \alpha_t \epsilon - \sigma_t z_0`,
so the denoiser is :math:`\alpha_t z_t - \sigma_t v`. Times are the integer steps
0 (nearly clean) ... T - 1 (nearly noise) of the schedule.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn

from dbdiffusion.diffusion._network import ResidualMLP
from dbdiffusion.diffusion._products import has_fast_bfloat16

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

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
        return self.parametrisation.clean(z_t, predicted.float(), alpha, sigma)

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
            predicted = self.network(alpha * z_0 + sigma * noise, t / N_TRAIN_STEPS, hidden).float()
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
