"""The module: scvi's VAE, unchanged, with a latent diffusion beside it; and the VAE as a decoder, counts integrated out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from scvi import REGISTRY_KEYS
from scvi.distributions import NegativeBinomial, Poisson, ZeroInflatedNegativeBinomial
from scvi.module import VAE

from dbdiffusion._words import real_number, whole_number
from dbdiffusion.diffusion import LatentDiffusion

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from torch import Generator, Tensor
    from torch.distributions import Distribution

    from dbdiffusion.predict import Matched


# Options of the constructor and of trainings as plain values, refused in words before any work.


SIZES = {  # arguments of the constructor: least, and most so that a mistyped number does not fill the memory
    "n_hidden": (1, 65_536),
    "n_latent": (1, 4_096),
    "n_layers": (1, 128),
    "n_embedding": (1, 64),
    "n_diffusion_hidden": (1, 65_536),
    "n_diffusion_blocks": (1, 1_024),
    "n_folds": (2, 1_024),
}
OTHERS_SAY = ("epochs", "n_epochs", "num_epochs")  # for `max_epochs`
SHARES = ("train_size", "validation_size")


def check_sizes_of_model(dropout_rate: Any, **sizes: Any) -> dict[str, Any]:
    """Sizes of a model and its dropout rate, as plain numbers.

    Raises
    ------
    ValueError
        If one is none, or out of range.

    Examples
    --------
    >>> check_sizes_of_model(0.1, n_hidden=16)
    {'n_hidden': 16, 'dropout_rate': 0.1}
    """
    plain: dict[str, Any] = {name: whole_number(name, value, *SIZES[name]) for name, value in sizes.items()}
    rate = real_number("dropout_rate", dropout_rate, 0, 1)
    if rate == 1:
        msg = f"`dropout_rate` must be below 1, got {dropout_rate!r}: nothing would be left."
        raise ValueError(msg)
    return {**plain, "dropout_rate": rate}


def training_options(
    max_epochs: Any = None, batch_size: Any = 1, plan_kwargs: Any = None, named: str = "max_epochs", **others: Any
) -> tuple[int | None, int]:
    """Epochs (None: to be chosen) and cells a minibatch, as plain numbers, after a look at all other options of a training.

    Parameters
    ----------
    max_epochs, batch_size, plan_kwargs, **others
        As of :meth:`DBDiffusion.train_vae` or :meth:`DBDiffusion.train_diffusion`.
    named
        How the first is called where it is asked for.

    Raises
    ------
    ValueError
        If epochs or cells are not at least 1, a share of cells is none, or any number is NaN.
    TypeError
        If ``plan_kwargs`` is no dictionary, or epochs go by a name of other packages.

    Examples
    --------
    >>> training_options(5.0, 64, {"lr": 1e-3})
    (5, 64)
    """
    if plan_kwargs is not None and not isinstance(plan_kwargs, Mapping):
        msg = f"`plan_kwargs` must be a dictionary of options of the training plan, got {plan_kwargs!r}."
        raise TypeError(msg)
    for name in OTHERS_SAY:
        if name in others:
            msg = (
                f"`{name}` is no option of the training: the epochs of the VAE are `max_epochs`, those of the diffusion "
                "`max_epochs_diffusion`."
            )
            raise TypeError(msg)
    for name, value in {**others, **(plan_kwargs or {})}.items():
        if isinstance(value, float) and math.isnan(value):
            msg = f"`{name}` must be a number, got {value!r}."
            raise ValueError(msg)
    for name in SHARES:
        if others.get(name) is not None:
            real_number(name, others[name], 0, 1)
    return (None if max_epochs is None else whole_number(named, max_epochs, 1)), whole_number("batch_size", batch_size, 1)


# Counts drawn from a generator that is handed in: torch's distributions draw from the one that all threads share.


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


# Mean of log1p CP10K under the VAE's count likelihood, with the counts integrated out instead of sampled.
#
# By Frullani's integral :math:`\log(1 + s x) = \int_0^\infty (1 - e^{-t s x}) e^{-t} / t\, dt`, the mean over counts needs only
# their Laplace transform, which is closed for the Poisson, the negative binomial and its zero-inflated kin. In log t the
# integrand is smooth and the trapezoid rule converges geometrically; below the first node it is s x t, a geometric series. The
# nodes below give four digits. It replaces some thousands of sampled counts a gene, and it is exact: no Monte-Carlo noise of
# counts enters an effect.
#
# The same cells are decoded under many targets. Between these only the mean count of a gene in a cell differs, and in its log
# the integral is smooth. So it is computed once, at a few nodes around the mean that control has there, and between them a
# polynomial is as good. What lies beyond the nodes is integrated.


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
    here_seen = here if no_zero is None else here * no_zero

    def differences(others: Distribution) -> Tensor:
        means: Tensor = getattr(others, "rate" if isinstance(others, Poisson) else "mu")
        exact: tuple[Tensor, ...] = ()
        answer = torch.empty_like(means).unflatten(0, (-1, len(mean)))
        for start in range(0, len(means), len(mean)):
            for first in range(0, len(mean), rows):  # everything is done to a block while it is in the cores' caches
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
                if isinstance(others, ZeroInflatedNegativeBinomial):
                    seen = others.zi_logits[theirs].neg().sigmoid_()
                    value.add_(here[of_cells]).mul_(seen).sub_(here_seen[of_cells])
        return answer

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


# The VAE as a decoder: latents to counts, or to their mean, by its own ``generative``.


@dataclass(frozen=True)
class VAEDecoder:
    """What :class:`dbdiffusion.predict.Decoder` asks for.

    Parameters
    ----------
    module
        In eval mode.
    """

    module: DBDiffusionVAE

    def expected(self, z: Tensor, matched: Matched) -> Tensor:
        """Mean log1p CP10K (S, G) of latents (S, D), counts integrated out."""
        return expected_log1p(self._counts(z, matched), matched.scale)

    def differences(self, z: Tensor, matched: Matched) -> Callable[[Tensor], Tensor]:
        """From latents (t, S, D) to how far their mean log1p CP10K (t, S, G) lies from that of latents (S, D)."""
        if self.module.dispersion == "gene-cell":  # then not only means differ
            return partial(self._integrated, matched, self.expected(z, matched))
        table = differences_from(self._counts(z, matched), matched.scale)
        return lambda others: table(self._counts(others.flatten(0, 1), matched.repeated(len(others))))

    def _integrated(self, matched: Matched, here: Tensor, others: Tensor) -> Tensor:
        there = self.expected(others.flatten(0, 1), matched.repeated(len(others)))
        return there.unflatten(0, others.shape[:2]) - here

    def sample(self, z: Tensor, matched: Matched, generator: torch.Generator) -> Tensor:
        """Counts (S, G) of latents (S, D)."""
        return sample_counts(self._counts(z, matched), generator)

    def _counts(self, z: Tensor, matched: Matched) -> Distribution:
        codes = {key: values.long() for key, values in matched.covariates.items() if key != REGISTRY_KEYS.CONT_COVS_KEY}
        return self.module.generative(
            z=z,
            library=matched.library.log(),
            batch_index=codes[REGISTRY_KEYS.BATCH_KEY],
            y=codes.get(REGISTRY_KEYS.LABELS_KEY),
            cat_covs=codes.get(REGISTRY_KEYS.CAT_COVS_KEY),
            cont_covs=matched.covariates.get(REGISTRY_KEYS.CONT_COVS_KEY),
            size_factor=matched.library.log(),
        )["px"]


Stage = Literal["vae", "diffusion"]
FOLDS = "folds."  # what the names of weights of folds began with, when every module carried them


class DBDiffusionVAE(VAE):
    """:class:`scvi.module.VAE` plus a :class:`~dbdiffusion.diffusion.LatentDiffusion`.

    Parameters
    ----------
    n_embedding
        E, size of a perturbation's embedding.
    n_context
        Contexts, told to the diffusion beside the embedding.
    n_diffusion_hidden, n_diffusion_blocks
        Size of the denoising network.
    n_folds
        Folds of perturbations for cross-fitting, whose diffusions are made when they are trained.
    **kwargs
        Passed to :class:`scvi.module.VAE`.

    Examples
    --------
    >>> module = DBDiffusionVAE(n_embedding=3, n_diffusion_hidden=16, n_diffusion_blocks=1, n_folds=2, n_input=11)
    >>> module.new_diffusion().mean.shape == module.diffusion.mean.shape
    True
    """

    def __init__(
        self,
        *,
        n_embedding: int,
        n_diffusion_hidden: int,
        n_diffusion_blocks: int,
        n_folds: int,
        n_context: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.n_embedding, self.n_context = n_embedding, n_context
        sizes = (self.n_latent, n_embedding + n_context, n_diffusion_hidden, n_diffusion_blocks)
        self._sizes, self.n_folds = sizes, n_folds
        self.diffusion = LatentDiffusion(*sizes)
        self.folds_of_before: dict[str, Tensor] = {}
        self.was_loaded_with_folds = False
        self._stage: Stage = "vae"
        self._frozen: frozenset[str] = frozenset()
        self.set_stage("vae")

    def new_diffusion(self) -> LatentDiffusion:
        """Another latent diffusion of the same size, untrained, on the same device; it is no part of the module."""
        diffusion = LatentDiffusion(*self._sizes).to(self.diffusion.mean.device)
        diffusion.averaged.requires_grad_(requires_grad=False)
        return diffusion

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """As torch's; weights of folds, which earlier versions kept here, are laid aside in ``folds_of_before``."""
        self.folds_of_before = {name: value for name, value in state_dict.items() if name.startswith(FOLDS)}
        self.was_loaded_with_folds = bool(self.folds_of_before)
        own = {name: value for name, value in state_dict.items() if not name.startswith(FOLDS)}
        return super().load_state_dict(own, *args, **options)

    def keep_frozen(self) -> None:
        """What is frozen now, as scArches leaves it, stays frozen in stage one."""
        self._frozen = frozenset(name for name, parameter in self.named_parameters() if not parameter.requires_grad)

    def set_stage(self, stage: Stage) -> None:
        """Choose what trains: the VAE (a denoiser gets no gradient) or the denoisers (the VAE is frozen, in eval mode)."""
        self._stage = stage
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(stage == "vae" and name not in self._frozen)
        self.diffusion.denoiser.requires_grad_(stage == "diffusion")
        self.diffusion.averaged.requires_grad_(requires_grad=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As torch's, but the VAE stays in eval mode while a denoiser trains, whoever calls this."""
        super().train(mode)
        if self._stage == "diffusion":
            for name, child in self.named_children():
                if name != "diffusion":
                    child.eval()
        return self
