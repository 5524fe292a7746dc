r"""Mean of log1p CP10K under the VAE's count likelihood, with the counts integrated out instead of sampled.

By Frullani's integral :math:`\log(1 + s x) = \int_0^\infty (1 - e^{-t s x}) e^{-t} / t\, dt`, the mean over counts needs only
their Laplace transform, which is closed for the Poisson, the negative binomial and its zero-inflated kin. In log t the
integrand is smooth and the trapezoid rule converges geometrically; below the first node it is s x t, a geometric series. The
nodes below give four digits. It replaces some thousands of sampled counts a gene, and it is exact: no Monte-Carlo noise of
counts enters an effect.

The same cells are decoded under many targets. Between these only the mean count of a gene in a cell differs, and in its log the
integral is smooth. So it is computed once, at a few nodes around the mean that control has there, and between them a polynomial
is as good. What lies beyond the nodes is integrated.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from scvi.distributions import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor
    from torch.distributions import Distribution

_STEP = 0.8
_T = torch.arange(-12.8, 2.5, _STEP).exp().tolist()
_BELOW_FIRST = _STEP * _T[0] / math.expm1(_STEP)  # the nodes that would follow downwards, where the integrand is s x t
_REACH = 1.0  # of the polynomial, in the log of the mean count: a factor of e either way
_DEGREE = 8  # even, so that the mean of control itself is a node; leaves what the nodes of the integral leave
_ELEMENTS_IN_CACHE = 131_072  # passes over a block stay in the cores' caches, and torch shares it out among them


def expected_log1p(counts: Distribution, scale: Tensor) -> Tensor:
    """Mean of log(1 + scale * X), natural log.

    Parameters
    ----------
    counts
        scvi's Poisson, NegativeBinomial or ZeroInflatedNegativeBinomial with batch shape (B, G).
    scale
        (B, 1), 10,000 over the library size.

    Returns
    -------
    Tensor
        (B, G).

    Raises
    ------
    TypeError
        For another distribution.

    Examples
    --------
    >>> counts = Poisson(rate=torch.tensor([[1e-6, 1e3]]))
    >>> expected_log1p(counts, torch.ones(1, 1)).round(decimals=2)
    tensor([[0.0000, 6.9100]])
    """
    mean, exponent, parameters = _laplace_exponent(counts)
    rows = _rows_at_once(scale, mean.shape[1])
    total = torch.cat([_integral(exponent, *block) for block in _blocks(rows, scale, mean, *parameters)])
    no_zero = _no_zero(counts)
    return total if no_zero is None else total * no_zero


def differences_from(counts: Distribution, scale: Tensor) -> Callable[[Distribution], Tensor]:
    """How far the mean of log(1 + scale * X) lies from that under some counts.

    Parameters
    ----------
    counts, scale
        As in :func:`expected_log1p`, (S, G) and (S, 1).

    Returns
    -------
    Callable
        Of counts with batch shape (t S, G), whose cells, t times one after the other, differ from these in their means and
        chances of zero alone, to differences (t, S, G).

    Raises
    ------
    TypeError
        For another distribution.

    Examples
    --------
    >>> one, other = (Poisson(rate=torch.tensor([[rate]])) for rate in (2.0, 3.0))
    >>> exact = expected_log1p(other, torch.ones(1, 1)) - expected_log1p(one, torch.ones(1, 1))
    >>> bool(torch.isclose(differences_from(one, torch.ones(1, 1))(other)[0], exact, atol=1e-6))
    True
    """
    mean, exponent, parameters = _laplace_exponent(counts)
    nodes = torch.cos(torch.arange(_DEGREE + 1, dtype=torch.float64) * torch.pi / _DEGREE)
    nodes[_DEGREE // 2] = 0
    rows = _rows_at_once(scale, mean.shape[1])
    here = torch.cat([_integral(exponent, *block) for block in _blocks(rows, scale, mean, *parameters)])
    at_nodes = torch.empty(_DEGREE + 1, *mean.shape, device=mean.device)
    for values, node in zip(at_nodes, nodes.tolist(), strict=True):
        factor = math.exp(_REACH * node)
        blocks = _blocks(rows, scale, factor * mean, factor * parameters[0], *parameters[1:])
        torch.cat([_integral(exponent, *block) for block in blocks], out=values).sub_(here)
    to_powers = torch.linalg.inv(torch.vander(_REACH * nodes))[:-1].to(mean)  # the highest first; they are zero at zero
    highest, *lower = torch.einsum("kn,nsg->ksg", to_powers, at_nodes)
    log_mean = _log(mean)
    no_zero = _no_zero(counts)

    def differences(others: Distribution) -> Tensor:
        means: Tensor = getattr(others, "rate" if isinstance(others, Poisson) else "mu")
        exact: tuple[Tensor, ...] = ()
        answer = torch.empty_like(means).unflatten(0, (-1, len(mean)))
        for start in range(0, len(means), len(mean)):
            for first in range(0, len(mean), rows):
                of_cells = slice(first, first + rows)
                theirs = slice(start + first, start + min(first + rows, len(mean)))
                away = _log(means[theirs]).sub_(log_mean[of_cells])
                value = answer[start // len(mean), of_cells]
                value.copy_(highest[of_cells])
                for coefficients in lower:
                    torch.addcmul(coefficients[of_cells], value, away, out=value)
                value.mul_(away)
                if away.abs_().max() > _REACH:
                    exact = exact or _laplace_exponent(others)[2]
                    far = (away > _REACH).nonzero(as_tuple=True)
                    at_them = (values.expand_as(means)[theirs][far] for values in (means, *exact))
                    value[far] = _integral(exponent, scale[of_cells].expand_as(away)[far], *at_them) - here[of_cells][far]
        no_zero_there = _no_zero(others)
        if no_zero is None or no_zero_there is None:
            return answer
        there = no_zero_there.unflatten(0, (-1, len(mean)))
        return answer.mul_(there).add_(here * (there - no_zero))

    return differences


def _integral(exponent: Callable[..., Tensor], scale: Tensor, mean: Tensor, *parameters: Tensor) -> Tensor:
    total = mean.mul(scale * _BELOW_FIRST)
    for t in _T:
        total.sub_(exponent(-torch.expm1(-t * scale), *parameters).expm1_(), alpha=_STEP * math.exp(-t))
    return total


def _rows_at_once(scale: Tensor, n_genes: int) -> int:
    return max(1, _ELEMENTS_IN_CACHE // n_genes) if scale.device.type == "cpu" else len(scale)


def _blocks(rows: int, *values: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(one.split(rows) for one in values), strict=True)


def _log(mean: Tensor) -> Tensor:
    return mean.clamp_min(torch.finfo(mean.dtype).tiny).log_()


def _no_zero(counts: Distribution) -> Tensor | None:
    """Chance that a count is not set to zero; None where none is."""
    return 1 - counts.zi_probs if isinstance(counts, ZeroInflatedNegativeBinomial) else None


def _laplace_exponent(counts: Distribution) -> tuple[Tensor, Callable[..., Tensor], tuple[Tensor, ...]]:
    """Without zero inflation: mean (B, G), and the log of E exp(-uX), a function of 1 - exp(-u) and of parameters (B, G).

    The first parameter is proportional to the mean, the others do not depend on it.
    """
    if isinstance(counts, NegativeBinomial):  # the zero-inflated one is a subclass
        parameters = counts.mu / counts.theta, -counts.theta
        return counts.mu, lambda gap, ratio, minus_theta: (ratio * gap).log1p_().mul_(minus_theta), parameters
    if isinstance(counts, Poisson):
        return counts.rate, lambda gap, minus_rate: minus_rate * gap, (-counts.rate,)
    msg = f"Expected a Poisson or a (zero-inflated) negative binomial, got {type(counts).__name__}."
    raise TypeError(msg)
