"""Counts drawn from a generator that is handed in: torch's distributions draw from the one that all threads share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from scvi.distributions import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from torch.distributions import Distribution

LARGEST_RATE = 1e8  # as in scvi-tools: torch's Poisson sampler fails above


def sample_counts(counts: Distribution, generator: Generator) -> Tensor:
    """Counts (B, G), those that scvi-tools draws when torch's own generator is in the state of this one.

    Parameters
    ----------
    counts
        scvi's Poisson, NegativeBinomial or ZeroInflatedNegativeBinomial with batch shape (B, G).
    generator
        On the device of the distribution.

    Raises
    ------
    TypeError
        For another distribution.

    Examples
    --------
    >>> counts = Poisson(rate=torch.full((2, 3), 5.0))
    >>> torch.equal(*(sample_counts(counts, torch.Generator().manual_seed(1)) for _ in range(2)))
    True
    """
    if isinstance(counts, NegativeBinomial):  # the zero-inflated one is a subclass
        concentration, rate = torch.broadcast_tensors(counts.theta, counts.theta / counts.mu)
        gamma = torch._standard_gamma(concentration.contiguous(), generator=generator) / rate
        gamma = gamma.clamp(min=torch.finfo(gamma.dtype).tiny, max=LARGEST_RATE)
        drawn = torch.poisson(gamma, generator=generator)
        if not isinstance(counts, ZeroInflatedNegativeBinomial):
            return drawn
        chance = torch.rand(drawn.shape, generator=generator, dtype=drawn.dtype, device=drawn.device)
        return torch.where(chance <= counts.zi_probs, torch.zeros_like(drawn), drawn)
    if isinstance(counts, Poisson):
        return torch.poisson(counts.rate, generator=generator)
    msg = f"Expected a Poisson or a (zero-inflated) negative binomial, got {type(counts).__name__}."
    raise TypeError(msg)
