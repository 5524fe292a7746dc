r"""The rectifier as a hierarchical Bayesian model, fitted by stochastic variational inference with Pyro.

For gene g of reference i, with prediction :math:`p_{ig} = \beta_g + \sum_q w_q m_{iqg}`,

.. math:: \delta_{ig} \sim t_\nu\big(p_{ig},\ \tau_g^2 + \kappa^2 p_{ig}^2 + s_{ig}^2 / n_i\big), \quad
    \beta_g \sim N(0, \sigma_\beta^2 + (1 - \textstyle\sum_q w_q)^2 v_g), \quad \log \tau_g \sim N(\mu_\tau, \sigma_\tau^2).

:math:`v_g` is the variance of the control mean, which :math:`\beta_g` has to carry where the predictions do not. The posteriors
of :math:`\beta_g` and :math:`\log \tau_g` are normal; all else is estimated by maximum marginal likelihood.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyro
import torch
from pyro import distributions as dist
from pyro.infer import SVI, Trace_ELBO
from pyro.nn import PyroModule, PyroParam, pyro_method
from pyro.optim import ClippedAdam
from torch.distributions import constraints

from dbdiffusion.inference._estimate import Estimate, t_plus_normal
from dbdiffusion.inference._rectifier import MIN_REFERENCES

if TYPE_CHECKING:
    from dbdiffusion.inference._tuning import References

N_STEPS = 600
MAX_VALUES = 2_000_000  # of a minibatch of genes, times references
LEARNING_RATE = 0.03
TOLERANCE = 5e-3  # nats a value
_ONE_AT_A_TIME = threading.Lock()  # Pyro's parameters and torch's generator are those of all threads


@dataclass(frozen=True)
class HierarchicalRectifier:
    """Posterior of the hierarchical model; :meth:`estimate` is its predictive distribution for targets.

    Parameters
    ----------
    weights
        Predictor to weight w.
    offset, offset_variance
        (G,) posterior mean and variance of beta, control noise taken out.
    tau
        (G,) square root of the posterior mean of tau squared.
    kappa, df
        Growth of errors with the prediction, and degrees of freedom.
    control_variance
        (G,) what the control noise in the predictions adds to the error against the truth.
    n_reference
        K.
    elbo
        (steps,) evidence lower bound a value, in nats.

    Examples
    --------
    >>> predictor = {"other": np.zeros((1, 3))}
    >>> one = np.ones(3)
    >>> fitted = HierarchicalRectifier({"other": 0.5}, 0 * one, 0.01 * one, 0.2 * one, 0.0, 8.0, 0 * one, 20, np.zeros(400))
    >>> fitted.estimate(predictor).effect.tolist()
    [[0.0, 0.0, 0.0]]
    """

    weights: dict[str, float]
    offset: np.ndarray
    offset_variance: np.ndarray
    tau: np.ndarray
    kappa: float
    df: float
    control_variance: np.ndarray
    n_reference: int
    elbo: np.ndarray

    @property
    def converged(self) -> bool:
        """Whether the bound hardly rose between the last two quarters of the steps."""
        quarter = max(len(self.elbo) // 4, 1)
        return bool(abs(self.elbo[-quarter:].mean() - self.elbo[-2 * quarter : -quarter].mean()) < TOLERANCE)

    def estimate(
        self,
        predicted: dict[str, np.ndarray],
        noise: np.ndarray | float = 0.0,
        interval: str = "prediction",
    ) -> Estimate:
        """Posterior predictive of T targets; parameters as in :meth:`Rectifier.estimate`."""
        effect = self.offset + sum(w * predicted[name] for name, w in self.weights.items())
        between = self.tau**2 + self.kappa**2 * effect**2 if interval == "prediction" else np.zeros_like(effect)
        known = np.broadcast_to(self.offset_variance + self.control_variance + noise, effect.shape)
        return Estimate(effect, *t_plus_normal(between, known, self.df))


class _Hierarchy(PyroModule):
    """Model and guide as a pair, the way scvi-tools' Pyro modules hold them."""

    weight: torch.Tensor
    offset_sd: torch.Tensor
    tau_mean: torch.Tensor
    tau_sd: torch.Tensor
    kappa: torch.Tensor
    df: torch.Tensor
    offset_loc: torch.Tensor
    offset_scale: torch.Tensor
    tau_loc: torch.Tensor
    tau_scale: torch.Tensor

    def __init__(self, references: References, scale: float) -> None:
        super().__init__()
        self.n_genes = references.effect.shape[1]
        self.control_variance = _tensor(references.control_variance) / scale**2
        spread = 0.5 * torch.log(_tensor(references.effect.var(axis=0)) / scale**2 + 1e-6)
        mean = _tensor(references.effect.mean(axis=0)) / scale
        n_predictors = len(references.predicted)
        start = {
            "weight": (torch.full((n_predictors,), 0.5 / max(n_predictors, 1)), constraints.positive),
            "offset_sd": (mean.std(correction=0) + 1e-3, constraints.positive),
            "tau_mean": (spread.mean(), constraints.real),
            "tau_sd": (spread.std(correction=0) + 0.1, constraints.positive),
            "kappa": (torch.tensor(0.2), constraints.positive),
            "df": (torch.tensor(8.0), constraints.interval(2.1, 100.0)),
            "offset_loc": (mean, constraints.real),
            "offset_scale": (torch.full((self.n_genes,), 0.05), constraints.positive),
            "tau_loc": (spread, constraints.real),
            "tau_scale": (torch.full((self.n_genes,), 0.1), constraints.positive),
        }
        for name, (value, constraint) in start.items():
            setattr(self, name, PyroParam(value, constraint))

    def plate(self, genes: torch.Tensor) -> pyro.plate:
        """Genes, a minibatch of them at a time."""
        return pyro.plate("genes", self.n_genes, subsample=genes, dim=-1)

    @pyro_method
    def model(self, observed: torch.Tensor, noise: torch.Tensor, predicted: torch.Tensor, genes: torch.Tensor) -> None:
        """Effects (K, g), their variances, and predictions (Q, K, g) of g genes."""
        weight = self.weight
        control = (1 - weight.sum()) ** 2 * self.control_variance[genes]
        with self.plate(genes):
            offset = pyro.sample("offset", dist.Normal(torch.zeros_like(control), torch.sqrt(self.offset_sd**2 + control)))
            log_tau = pyro.sample("log_tau", dist.Normal(self.tau_mean, self.tau_sd))
            mean = offset + torch.einsum("q,qkg->kg", weight, predicted)
            variance = torch.exp(2 * log_tau) + self.kappa**2 * mean**2 + noise
            with pyro.plate("references", len(observed), dim=-2):
                pyro.sample("effect", dist.StudentT(self.df, mean, torch.sqrt(variance)), obs=observed)

    @pyro_method
    def guide(self, _observed: torch.Tensor, _noise: torch.Tensor, _predicted: torch.Tensor, genes: torch.Tensor) -> None:
        """Independent normals for every gene."""
        with self.plate(genes):
            pyro.sample("offset", dist.Normal(self.offset_loc[genes], self.offset_scale[genes]))
            pyro.sample("log_tau", dist.Normal(self.tau_loc[genes], self.tau_scale[genes]))


def fit_hierarchical(references: References, n_steps: int = N_STEPS, seed: int = 0) -> HierarchicalRectifier:
    """Fit the hierarchical model to all genes.

    Parameters
    ----------
    references
        At least three.
    n_steps
        Of Adam; each takes all genes, or a minibatch of them on large screens.
    seed
        Of the variational draws; the global random state is left alone.

    Raises
    ------
    ValueError
        With fewer than three references.

    Examples
    --------
    >>> from dbdiffusion.inference import References
    >>> rng = np.random.default_rng(0)
    >>> truth = rng.standard_normal((20, 11))
    >>> seen = truth + 0.1 * rng.standard_normal(truth.shape)
    >>> references = References(seen, np.full(truth.shape, 0.01), np.zeros(11), {"exact": truth})
    >>> fit = fit_hierarchical(references)
    >>> bool(0.95 < fit.weights["exact"] < 1.05), bool(fit.tau.mean() < 0.1)
    (True, True)
    """
    references = references.without_own_genes()
    n, n_genes = references.effect.shape
    if n < MIN_REFERENCES:
        msg = f"The hierarchical model needs at least {MIN_REFERENCES} references, got {n}. Use `method='cross_fit'`."
        raise ValueError(msg)
    scale = float(np.sqrt((references.effect**2).mean())) or 1.0
    data = [_tensor(references.effect) / scale, _tensor(references.variance) / scale**2,
            torch.stack([_tensor(values) for values in references.predicted.values()]) / scale]  # fmt: skip
    batch = max(1, min(n_genes, MAX_VALUES // n))
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[]), pyro.get_param_store().scope():
        torch.manual_seed(seed)
        hierarchy = _Hierarchy(references, scale)
        schedule = {"lr": LEARNING_RATE, "lrd": 0.05 ** (1 / n_steps), "clip_norm": 10.0}
        svi = SVI(hierarchy.model, hierarchy.guide, ClippedAdam(schedule), Trace_ELBO())
        elbo = np.empty(n_steps)
        for step in range(n_steps):
            genes = torch.randperm(n_genes)[:batch] if batch < n_genes else torch.arange(n_genes)
            elbo[step] = -svi.step(*(values[..., genes] for values in data), genes) / (n * n_genes)
        return _posterior(hierarchy, references, scale, elbo)


def _posterior(hierarchy: _Hierarchy, references: References, scale: float, elbo: np.ndarray) -> HierarchicalRectifier:
    with torch.no_grad():
        weight = hierarchy.weight.double().numpy()
        prior = float(hierarchy.offset_sd) ** 2
        control = hierarchy.control_variance.double().numpy()
        share = prior / (prior + (1 - weight.sum()) ** 2 * control)
        posterior_variance = hierarchy.offset_scale.double().numpy() ** 2
        tau_squared = torch.exp(2 * hierarchy.tau_loc + 2 * hierarchy.tau_scale**2).double().numpy()
        return HierarchicalRectifier(
            weights=dict(zip(references.predicted, map(float, weight), strict=True)),
            offset=scale * share * hierarchy.offset_loc.double().numpy(),
            offset_variance=scale**2 * (share**2 * posterior_variance + prior * (1 - share)),
            tau=scale * np.sqrt(tau_squared),
            kappa=float(hierarchy.kappa),
            df=float(hierarchy.df),
            control_variance=scale**2 * weight.sum() ** 2 * control,
            n_reference=len(references.effect),
            elbo=elbo,
        )


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)
