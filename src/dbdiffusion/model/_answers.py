"""What is said of one target and why: the observed contrast, the rectified prediction, or the paper's estimate."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dbdiffusion.inference import (
    MIN_REFERENCES,
    Estimate,
    Rectifier,
    fit_rectifier,
    paper_estimate,
    welch_contrast,
)
from dbdiffusion.model._references import GENERATED, ReferencePool, predictions, reference_pool, references_of

if TYPE_CHECKING:
    from dbdiffusion.model._generate import GenerationOptions


class FewReferencesWarning(UserWarning):
    """Fewer than three reference perturbations: a point estimate can be had, an interval cannot.

    Examples
    --------
    >>> issubclass(FewReferencesWarning, UserWarning)
    True
    """


@dataclass(frozen=True)
class Answer:
    """Estimate (G,) of a target, and what explains it.

    Parameters
    ----------
    estimate
        (G,).
    lam
        Weight of the generated mean; NaN for an observed contrast.
    tau
        (G,) or NaN: standard deviation between perturbations around the prediction.
    n_reference
        Perturbations that rectified it.
    """

    estimate: Estimate
    lam: float
    tau: np.ndarray
    n_reference: int


@dataclass(frozen=True)
class Way:
    """How unseen targets are predicted; see :meth:`DBDiffusion.differential_expression_ppi`.

    Parameters
    ----------
    interval, cross_fitting, n_cells
        As there.
    options
        How cells are drawn.
    """

    interval: str
    cross_fitting: str
    n_cells: int
    options: GenerationOptions


def measured_answer(model: Any, name: str) -> Answer:
    """Observed contrast of a perturbation with cells."""
    observed = model._screen().observed.subset(np.array([model._space().row(name)]))
    estimate = welch_contrast(observed.effect, observed.variance, observed.control_variance, observed.df, observed.control_df)
    return Answer(Estimate(estimate.effect[0], estimate.se[0], estimate.df[0]), np.nan, np.array(np.nan), 0)


def rectified_answers(model: Any, unseen: list[str], way: Way) -> tuple[dict[str, Answer], dict[str, Rectifier]]:
    """Rectified predictions, and the rectifiers of single perturbations and of combinations that made them."""
    space = model._space()
    predicted, noise = predictions(
        model, model.module.diffusion, [(space, unseen)], way.options, way.n_cells, way.cross_fitting
    )
    answers: dict[str, Answer] = {}
    rectifiers: dict[str, Rectifier] = {}
    for kind in ("single", "combination"):
        chosen = [i for i, name in enumerate(unseen) if (len(space.parts(name)) > 1) == (kind == "combination")]
        if not chosen:
            continue
        rectifier = rectifiers[kind] = _fit(model, way, combination=kind == "combination")
        lam = rectifier.weights[GENERATED]
        of_chosen = {name: values[chosen] for name, values in predicted.items()}
        estimate = rectifier.estimate(of_chosen, lam**2 * noise[chosen], way.interval)
        for row, i in enumerate(chosen):
            one = Estimate(estimate.effect[row], estimate.se[row], estimate.df[row])
            answers[unseen[i]] = Answer(one, lam, rectifier.tau, rectifier.n_reference)
    return answers, rectifiers


def paper_answers(model: Any, unseen: list[str], way: Way) -> dict[str, Answer]:
    """The published estimator: in-sample residuals of the located cluster, weight one."""
    observed_all = model._screen().observed
    space = model._space().with_ranking(("cluster",))
    generated = predictions(model, model.module.diffusion, [(space, unseen)], way.options, way.n_cells, "in_sample")[0][
        GENERATED
    ]
    in_sample = pool_of(model, Way(way.interval, "in_sample", way.n_cells, way.options))
    answers = {}
    for row, name in enumerate(unseen):
        members = space.located_cluster(name)
        observed = observed_all.subset(members)
        references = in_sample.predicted[GENERATED][np.searchsorted(in_sample.rows, members)]
        estimate = paper_estimate(generated[row], observed.effect, references, observed.variance)
        tau = observed.effect.std(axis=0, ddof=1) if len(members) > 1 else np.array(np.nan)
        answers[name] = Answer(estimate, 1.0, tau, len(members))
    return answers


def pool_of(model: Any, way: Way) -> ReferencePool:
    """Predictions of the references, computed once for the same way of making them."""
    if way.cross_fitting == "k_fold" and model.cross_fit_ is None:
        model.cross_fit()
    key = (way.cross_fitting, way.n_cells, way.options, model.strategy)
    if key not in model._pools:
        model._pools = {key: reference_pool(model, way.cross_fitting, way.options, way.n_cells)}
    return model._pools[key]


def _fit(model: Any, way: Way, *, combination: bool) -> Rectifier:
    pool = pool_of(model, way)
    members = pool.select(combination=combination)
    if len(members) < MIN_REFERENCES:
        warnings.warn(
            f"Only {len(members)} reference perturbations could be predicted without their cells; at least "
            f"{MIN_REFERENCES} are needed for an interval, so effects of unseen perturbations come without errors and "
            "p-values. Measure more perturbations whose genes are in `var_names`, or give vectors.",
            FewReferencesWarning,
            stacklevel=5,
        )
    return fit_rectifier(references_of(model, pool, members))
