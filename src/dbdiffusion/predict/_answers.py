"""What is said of targets and why: the observed contrast, shrunk or not, the rectified prediction, or the paper's estimate."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dbdiffusion._keys import EFFECT_COLUMNS
from dbdiffusion._words import say
from dbdiffusion.embedding import neighbour_coherence
from dbdiffusion.inference import (
    MIN_REFERENCES,
    Estimate,
    NullShare,
    Prior,
    Rectifier,
    References,
    effects_table,
    fit_rectifier,
    own_scales,
    paper_estimate,
    shrunk_contrast,
    shrunk_null,
    welch_contrast,
)
from dbdiffusion.predict._pool import (
    GENERATED,
    Fitted,
    effect_of_any,
    is_told_apart,
    listable_genes,
    part_variance,
    predictions,
    references_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    from dbdiffusion.embedding import PerturbationSpace
    from dbdiffusion.predict._predictor import Predictor, Recipe
    from dbdiffusion.screen import ObservedEffects, Screen


# Warnings of unseen targets: too few references for an interval, or an answer that any target would get.


class FewReferencesWarning(UserWarning):
    """Fewer than three reference perturbations: a point estimate can be had, an interval cannot.

    Examples
    --------
    >>> issubclass(FewReferencesWarning, UserWarning)
    True
    """


class NotToldApartWarning(UserWarning):
    """Unseen perturbations get the answer that any other would get: the screen says nothing of how they differ.

    Examples
    --------
    >>> issubclass(NotToldApartWarning, UserWarning)
    True
    """


def warn_of_few(answers: Mapping[str, Answer]) -> None:
    """Say which answers have too few references for an interval, if any."""
    few = {name: answer.n_reference for name, answer in answers.items() if answer.n_reference < MIN_REFERENCES}
    if few:
        name, n = next(iter(few.items()))
        say(
            f"{len(few)} unseen perturbations ({name!r}, ...) have fewer than {MIN_REFERENCES} reference "
            f"perturbations ({n:.0f}), at least {MIN_REFERENCES} are needed for an interval, so their effects come without "
            "errors and p-values. Measure more perturbations whose genes are in `var_names`, or give vectors.",
            FewReferencesWarning,
        )


def warn_of_same(answers: Mapping[str, Answer]) -> None:
    """Say which answers any other target would get too, if any; those without errors cannot be compared."""
    same = [name for name, answer in answers.items() if not answer.told_apart and np.isfinite(answer.estimate.se).any()]
    if same:
        say(
            f"{len(same)} of {len(answers)} unseen perturbations ({same[0]!r}, ...) get the answer that any other would get: "
            "what the measured perturbations have in common. This screen does not tell them apart, see "
            "`model.embedding_scores()` and `model.calibration()`.",
            NotToldApartWarning,
        )


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
        Number of perturbations that rectified it.
    n_expressing
        (G,) cells of the target that can be expected to express a gene; NaN where there are none or it is not known.
    can_be_tested
        (G,) whether they are enough for a p-value.
    null
        What its p-values look like where nothing changed; None means uniform.
    q_value
        (G,) level from which on a gene is listed; None without left-out references to tell by.
    lfsr
        (G,) local false sign rates, NaN where a gene cannot be listed; None where the p-value tells them.
    told_apart
        Whether an unseen target gets another answer than any other would; True for an observed contrast.

    Examples
    --------
    >>> answer = Answer(estimate=None, lam=0.0, tau=np.array([0.1, 0.2]), n_reference=12.0)
    >>> answer.told_apart, bool(answer.can_be_tested)
    (True, True)
    """

    estimate: Estimate
    lam: float
    tau: np.ndarray
    n_reference: float
    n_expressing: np.ndarray = field(default_factory=lambda: np.array(np.nan))
    can_be_tested: np.ndarray = field(default_factory=lambda: np.array(True))
    null: NullShare | None = None
    q_value: np.ndarray | None = None
    lfsr: np.ndarray | None = None
    told_apart: bool = True


def observed_estimate(observed: ObservedEffects) -> Estimate:
    """Welch's contrasts of observed effects."""
    return welch_contrast(observed.effect, observed.variance, observed.control_variance, observed.df, observed.control_df)


def measured_answers(predictor: Predictor, names: Sequence[str]) -> dict[str, Answer]:
    """Observed contrasts of perturbations with cells."""
    rows = np.array([predictor.space.row(name) for name in names], dtype=int)
    observed = predictor.screen.observed.subset(rows)
    estimate = observed_estimate(observed)
    tests = zip(observed.n_expressing, observed.can_be_tested, strict=True)
    return {
        name: Answer(_row(estimate, i), np.nan, np.array(np.nan), 0, *test)
        for i, (name, test) in enumerate(zip(names, tests, strict=True))
    }


def shrunk_answers(predictor: Predictor, names: Sequence[str], recipe: Recipe) -> dict[str, Answer]:
    """Observed contrasts shrunk towards each perturbation's own cross-fitted prediction.

    The genes that a perturbation hits, and perturbations that could not be predicted without their cells, stay as observed.
    """
    plain = measured_answers(predictor, names)
    space, pool = predictor.space, predictor.references(recipe)
    wanted = {space.row(name): name for name in names}
    for kind, chosen in by_kind(space, names):
        members = pool.select(combination=kind == "combination")
        asked = {space.row(name) for name in chosen}
        inside = [i for i, row in enumerate(pool.rows[members]) if row in asked]
        if not inside or len(members) < MIN_REFERENCES:
            continue
        references = references_of(predictor, pool, members)
        rectifier = fit_rectifier(references, recipe.lam)
        prior = _prior(rectifier, references, inside)
        observed = predictor.screen.observed.subset(pool.rows[members][inside])
        errors = (observed.variance, observed.control_variance, observed.df, observed.control_df)
        shrunk = shrunk_contrast(observed.effect, *errors, prior)
        nulls = shrunk_null(*errors, prior, observed.can_be_tested)
        for i, row in enumerate(pool.rows[members][inside]):
            name = wanted[row]
            estimate = _with_genes_of(_row(shrunk, i), plain[name].estimate, space.own_genes(name))
            plain[name] = replace(
                plain[name],
                estimate=estimate,
                lam=rectifier.weights[GENERATED],
                tau=rectifier.tau,
                n_reference=rectifier.n_reference - 1,
                null=nulls[i],
            )
    return plain


def _prior(rectifier: Rectifier, references: References, members: Sequence[int]) -> Prior:
    """What the others say of some of the references, and how far each as a whole lies from it."""
    noise = rectifier.known_noise(references)
    between, predicted, law = rectifier.loo_between, rectifier.loo_predicted, rectifier.law
    scales = own_scales(rectifier.loo_error, between, predicted, noise, law)
    return Prior(predicted[members], between[members], law, rectifier.control_weight, scales[members])


def rectified_answers(
    predictor: Predictor, unseen: Sequence[str], recipe: Recipe
) -> tuple[dict[str, Answer], dict[str, Fitted]]:
    """Rectified predictions, and what single perturbations and combinations were predicted with."""
    space = predictor.space
    kinds = dict(by_kind(space, unseen))
    fits = {kind: predictor.fitted(recipe, kind) for kind in kinds}
    has_weight = any(fitted.rectifier.weights[GENERATED] != 0 for fitted in fits.values())
    predicted, noise = predictor.predicted(unseen, recipe, generated=has_weight)
    position = {name: i for i, name in enumerate(unseen)}
    answers: dict[str, Answer] = {}
    for kind, names in kinds.items():
        fitted = fits[kind]
        rectifier = fitted.rectifier
        lam = rectifier.weights[GENERATED]
        rows = [position[name] for name in names]
        of_names = fitted.references.of_targets({name: values[rows] for name, values in predicted.items()})
        known = lam**2 * noise[rows] + sum(rectifier.weights.values()) ** 2 * part_variance(predictor, names)
        estimate = rectifier.estimate(of_names, known, recipe.interval)
        listable, coherence = listable_genes(predictor, names), neighbour_coherence(space, names)
        rule = fitted.rule
        q_values = [None] * len(names) if rule is None else rule.q_values(estimate.effect, listable, coherence)
        lfsr = fitted.lfsr(estimate, listable, known, coherence[:, None])
        of_any = effect_of_any(rectifier, fitted.references)
        # the vector of a gene that no cell expresses is like none, so all such targets get one answer
        is_like_none = (space.similarity(names) == 0).all(axis=1) & (not predictor.own)
        for i, name in enumerate(names):
            row = _row(estimate, i)
            answers[name] = Answer(
                row,
                lam,
                rectifier.tau,
                rectifier.n_reference,
                q_value=q_values[i],
                lfsr=lfsr[i],
                told_apart=is_told_apart(row, of_any) and not is_like_none[i],
            )
    warn_of_few(answers)
    warn_of_same(answers)
    return answers, fits


def paper_answers(predictor: Predictor, unseen: Sequence[str], recipe: Recipe) -> dict[str, Answer]:
    """The published estimator: in-sample residuals of the located cluster, weight one."""
    space = predictor.space
    if space.can_learn("cluster"):
        space = space.with_ranking(("cluster", *space.ranking))
    recipe = replace(recipe, interval="mean", cross_fitting="in_sample")
    generated = predictions(predictor, predictor.generator, [(space, unseen)], recipe)[0][GENERATED]
    in_sample = predictor.references(recipe)
    answers = {}
    for row, (name, located) in enumerate(zip(unseen, space.located(unseen), strict=True)):
        members = np.flatnonzero(located)
        observed = predictor.screen.observed.subset(members)
        references = in_sample.predicted[GENERATED][np.searchsorted(in_sample.rows, members)]
        estimate = paper_estimate(generated[row], observed.effect, references, observed.variance)
        tau = observed.effect.std(axis=0, ddof=1) if len(members) > 1 else np.array(np.nan)
        answers[name] = Answer(estimate, 1.0, tau, len(members))
    return answers


def by_kind(space: PerturbationSpace, names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """``"single"`` and ``"combination"``, each with its names, if it has any."""
    for kind in ("single", "combination"):
        chosen = [name for name in names if (len(space.parts(name)) > 1) == (kind == "combination")]
        if chosen:
            yield kind, chosen


def _row(estimate: Estimate, i: int) -> Estimate:
    return Estimate(estimate.effect[i], estimate.se[i], estimate.df[i])


def _with_genes_of(estimate: Estimate, other: Estimate, genes: np.ndarray) -> Estimate:
    taken = np.isin(np.arange(len(estimate.effect)), genes)
    return Estimate(*(np.where(taken, getattr(other, a), getattr(estimate, a)) for a in ("effect", "se", "df")))


# Tables of effects: of what was observed, the columns that explain a row, and what stands in ``attrs``.


def observed_table(
    names: Sequence[str], observed: ObservedEffects, var_names: np.ndarray, control: str, confidence: float
) -> pd.DataFrame:
    """Observed contrasts of named perturbations.

    Examples
    --------
    >>> screen = model.predictor().screen
    >>> table = observed_table(screen.names, screen.observed, screen.var_names, "control", 0.95)
    >>> table["status"].unique().tolist()
    ['measured']
    """
    columns = {
        "lam": np.array(np.nan), "tau": np.array(np.nan), "n_reference": np.array(0), "status": np.array("measured"),
        "n_expressing": observed.n_expressing,
        "contrast": np.array([f"{name} vs {control}" for name in names], dtype=object)[:, None],
    }  # fmt: skip
    table = effects_table(
        list(names), var_names, observed_estimate(observed), observed.mean_control, confidence, columns,
        tested=observed.can_be_tested,
    )  # fmt: skip
    return table[list(EFFECT_COLUMNS)]


def answers_table(
    screen: Screen,
    space: PerturbationSpace,
    names: Sequence[str],
    answers: Mapping[str, Answer],
    fits: Mapping[str, Fitted],
    recipe: Recipe,
) -> pd.DataFrame:
    """Answers as a table: one row a target and gene, genes in the order of the screen."""
    in_order = [answers[name] for name in names]
    unseen = [name for name in names if not space.is_measured(name)]
    table = effects_table(
        list(names),
        screen.var_names,
        Estimate(*(np.stack([getattr(answer.estimate, a) for answer in in_order]) for a in ("effect", "se", "df"))),
        np.stack([_mean_control(screen, space, name) for name in names]),
        recipe.confidence,
        explaining_columns(in_order, names, set(unseen), screen.control),
        recipe.fdr,
        recipe.smallest_effect,
        [answer.null for answer in in_order],
        np.stack([np.broadcast_to(answer.can_be_tested, len(screen.var_names)) for answer in in_order]),
        [answer.q_value for answer in in_order],
        [answer.lfsr for answer in in_order],
    )[list(EFFECT_COLUMNS)]
    table.attrs = {
        **_plain(recipe),
        "scale": "mean log1p CP10K, natural log",
        **fitted_attrs(fits),
        "told_apart": {name: answers[name].told_apart for name in unseen},
        **_plain(recipe.options),
    }
    return table


def _plain(options: object) -> dict[str, Any]:
    """Fields of a dataclass that were chosen, but for those that are dataclasses themselves."""
    chosen = {one.name: getattr(options, one.name) for one in fields(options)}  # type: ignore[arg-type]
    return {name: value for name, value in chosen.items() if value is not None and not is_dataclass(value)}


def _mean_control(screen: Screen, space: PerturbationSpace, name: str) -> np.ndarray:
    row = space.row(name)
    return screen.observed.mean_control[slice(None) if row is None else [row]].mean(axis=0)


def fitted_attrs(fits: Mapping[str, Fitted]) -> dict[str, Any]:
    """What predicted the unseen targets, by kind."""
    rectifiers = {kind: fitted.rectifier for kind, fitted in fits.items()}
    lists = {
        kind: {"least_promise": fitted.rule.least_promise, "n_reference": fitted.rule.n_reference}
        for kind, fitted in fits.items()
        if fitted.rule is not None
    }
    return {
        "weights": {kind: rectifier.weights for kind, rectifier in rectifiers.items()},
        "rectifier_mean": {kind: {"rho": r.rho, "control_weight": fits[kind].references.weight_of_control(r.control_weight),
                                  "n_placed": fits[kind].references.n_placed}
                           for kind, r in rectifiers.items() if isinstance(r, Rectifier)},
        "lists": lists,
    }  # fmt: skip


def explaining_columns(
    answers: Sequence[Answer], names: Sequence[str], unseen: set[str], control: str
) -> dict[str, np.ndarray]:
    """Columns that say what each answer rests on; arrays that broadcast to (T, G)."""
    n_genes = len(answers[0].estimate.effect)
    return {
        "lam": np.array([answer.lam for answer in answers])[:, None],
        "tau": np.stack([np.broadcast_to(answer.tau, (n_genes,)) for answer in answers]),
        "n_reference": np.array([answer.n_reference for answer in answers])[:, None],
        "n_expressing": np.stack([np.broadcast_to(answer.n_expressing, (n_genes,)) for answer in answers]),
        "status": np.array(["unseen" if name in unseen else "measured" for name in names])[:, None],
        "contrast": np.array([f"{name} vs {control}" for name in names], dtype=object)[:, None],
    }
