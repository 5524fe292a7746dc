"""Calibration on a user's own screen: measured perturbations as if they were unseen."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from scipy import stats

from dbdiffusion._words import real_number
from dbdiffusion.embedding import nearest_measured, nearest_similarity, neighbour_coherence
from dbdiffusion.inference import (
    FIRST,
    Confidence,
    Rectifier,
    adjust_p_values,
    confidence_features,
    fit_confidence,
    fit_rectifier,
    leave_one_out,
    left_out_evidence,
    left_out_lists,
    left_out_signs,
)
from dbdiffusion.metrics import coverage, interval_score, two_sided_pit
from dbdiffusion.predict._answers import by_kind, observed_estimate, rectified_answers
from dbdiffusion.predict._pool import placebo
from dbdiffusion.screen import MIN_EXPRESSING, unwrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.inference import Evidence, References
    from dbdiffusion.predict._pool import Fitted
    from dbdiffusion.predict._predictor import Predictor, Recipe
    from dbdiffusion.screen import ObservedEffects


# How far to trust each target: a small table, one row a target.


EXPECTED = ("correlation", *(f"right_{n}" for n in FIRST))
EXPECTED_COLUMNS = tuple(f"{name}{end}" for name in EXPECTED for end in ("", "_low", "_high"))
N_NEAREST = 3


def confidence_table(predictor: Predictor, names: Sequence[str], recipe: Recipe) -> pd.DataFrame:
    """The table of :meth:`DBDiffusion.target_confidence`, in the order of the names, without the numbers of cells."""
    space = predictor.space
    table = pd.DataFrame({"target": list(names)}, dtype=object)
    table["status"] = ["measured" if space.is_measured(name) else "unseen" for name in names]
    for column in EXPECTED_COLUMNS:
        table[column] = np.nan
    near = nearest_measured(space, names, N_NEAREST)
    table["nearest"] = [", ".join(name for name, _ in some) for some in near]
    table["similarity"] = [some[0][1] if some else np.nan for some in near]
    table["strategy"] = [space.strategy_of(name) for name in names]
    table["told_apart"] = True
    unseen = [name for name in names if not space.is_measured(name)]
    if not unseen:
        return table
    answers, fits = rectified_answers(predictor, unseen, recipe)
    for kind, chosen in by_kind(space, unseen):
        rows = table.index[table["target"].isin(chosen)]
        table.loc[rows, "told_apart"] = [answers[name].told_apart for name in chosen]
        confidence = confidence_of(predictor, recipe, fits[kind], combination=kind == "combination")
        if confidence is not None:
            effect = np.stack([answers[name].estimate.effect for name in chosen])
            for column, values in expected_accuracy(predictor, confidence, chosen, effect, recipe.confidence).items():
                table.loc[rows, column] = values
    return table


def confidence_of(predictor: Predictor, recipe: Recipe, fitted: Fitted, *, combination: bool) -> Confidence | None:
    """What the references of a fit say of targets like them; None where they were not left out, or are too few.

    Nor where control cells are not at hand in halves: agreement by the error of one control mean is no evidence.
    """
    pool, screen = predictor.references(recipe), predictor.screen
    members = pool.select(combination=combination)
    if recipe.cross_fitting == "in_sample" or screen.halves is None or pool.similarity is None:
        return None
    if not isinstance(fitted.rectifier, Rectifier):
        return None
    halves = screen.halves.subset(pool.rows[members])
    return fit_confidence(fitted.rectifier, fitted.references, pool.similarity[members], screen.is_listable, halves)


def expected_accuracy(
    predictor: Predictor, confidence: Confidence, names: Sequence[str], effect: np.ndarray, level: float
) -> dict[str, np.ndarray]:
    """Expected accuracy (n,) of predicted effects (n, G), or of their root mean squares (n, 1), with intervals at a level."""
    space = predictor.space
    features = confidence_features(effect, neighbour_coherence(space, names), nearest_similarity(space, names))
    return confidence.expected(features, level)


# What left-out references say of lists, confidence and coverage of a screen, and that in two sentences.


MIN_TO_JUDGE = 10  # references
LIST_LEVEL = 0.1  # of the list that the verdict speaks of
STANDARD_ERRORS = 2.0  # that an error ratio must lie below one to be called better
NOMINAL = 0.95
MOST_JUDGED = 100  # references whose confidence is said by the others, which takes the square of their number
THIRDS = ("low", "middle", "high")


def lists_and_confidence(
    predictor: Predictor, recipe: Recipe, fitted: Fitted, members: np.ndarray, *, combination: bool
) -> tuple[pd.DataFrame, Confidence | None]:
    """Left-out lists by level (no rows where there can be none), and what left-out references say of a target's accuracy."""
    lists, screen = pd.DataFrame(), predictor.screen
    if fitted.rule is not None and screen.halves is not None and isinstance(fitted.rectifier, Rectifier):
        halves = screen.halves.subset(predictor.references(recipe).rows[members])
        lists = left_out_lists(fitted.rule, fitted.rectifier, fitted.references, screen.is_listable, halves)
    return lists, confidence_of(predictor, recipe, fitted, combination=combination)


def accuracy_of(confidence: Confidence | None) -> dict[str, float]:
    """Means over left-out references, how well what is expected of each orders them, and the share that intervals hold.

    Examples
    --------
    >>> accuracy_of(None)
    {}
    """
    if confidence is None:
        return {}
    n = len(confidence.correlation)
    confidence = confidence.subset(np.unique(np.linspace(0, n - 1, MOST_JUDGED).round().astype(int)))
    said = confidence.left_out()
    told = np.isfinite(said["correlation"])
    if not told.any():
        return {}
    realised = confidence.correlation
    inside = (said["correlation_low"] <= realised) & (realised <= said["correlation_high"])
    varies = np.ptp(said["correlation"][told]) > 0 and np.ptp(realised[told]) > 0
    order = stats.spearmanr(said["correlation"][told], realised[told])[0] if varies else np.nan
    answer = {"correlation": float(realised.mean()), **{f"right_{n}": float(v.mean()) for n, v in confidence.right.items()}}
    return answer | {"expected_against_realised": float(order), "interval_holds": float(inside[told].mean())}


def coverage_in_thirds(pit: np.ndarray, by: dict[str, np.ndarray]) -> pd.DataFrame:
    """Coverage of 95 % intervals inside thirds of what is known of a target beforehand.

    Parameters
    ----------
    pit
        (K, G) levels at which intervals just cover; NaN do not count.
    by
        Name to a number (K,) of each reference; perturbations where it is NaN are left out.

    Examples
    --------
    >>> table = coverage_in_thirds(np.full((6, 4), 0.5), {"strength": np.arange(6.0)})
    >>> table["third"].tolist(), table["coverage"].tolist()
    (['low', 'middle', 'high'], [1.0, 1.0, 1.0])
    """
    kept = np.isfinite(pit).any(axis=1)
    covered = np.full(len(pit), np.nan)
    covered[kept] = np.nanmean(np.where(np.isnan(pit), np.nan, pit <= NOMINAL)[kept], axis=1)
    rows = []
    for name, values in by.items():
        usable = np.flatnonzero(kept & np.isfinite(values))
        for third, inside in zip(THIRDS, np.array_split(usable[np.argsort(values[usable], kind="stable")], 3), strict=True):
            n = len(inside)
            mean = float(covered[inside].mean()) if n else np.nan
            se = float(covered[inside].std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
            rows.append({"by": name, "third": third, "n": n, "coverage": mean, "coverage_se": se})
    return pd.DataFrame(rows)


def verdict_of(evidence: pd.Series, lists: pd.DataFrame, n_placed: int = MIN_TO_JUDGE) -> str:
    """Two sentences: whether predictions are of use on this screen, and what lists hold; a third where few tell the first.

    ``n_placed`` is the number of perturbations whose left-out predictions are judged: those that the others could place.

    "Better" means that the squared error of left-out predictions, over that of the other, lies two standard errors below one.
    "Not surely better": below one, but not so far.

    Examples
    --------
    >>> ratios = {"relative_to_zero": 0.41, "relative_to_zero_se": 0.05, "relative_to_mean": 0.6, "relative_to_mean_se": 0.05}
    >>> print(verdict_of(pd.Series(ratios), pd.DataFrame()))
    On this screen left-out perturbations were predicted better than by no effect (0.41 times its squared error, standard \
error 0.05) and better than by the mean of the measured ones (0.60 times its squared error, standard error 0.05). There are \
no gene lists: no list can be checked here.
    """
    if n_placed == 0:
        return f"No left-out perturbation could be placed by the others, so no prediction was tested. {_of_lists(lists)}"
    zero, mean = (_against(evidence[f"relative_to_{kind}"], evidence[f"relative_to_{kind}_se"]) for kind in ("zero", "mean"))
    first = (
        f"On this screen left-out perturbations were predicted {zero[0]} than by no effect ({zero[1]}) and {mean[0]} than by "
        f"the mean of the measured ones ({mean[1]})."
    )
    few = "" if n_placed >= MIN_TO_JUDGE else f" Only {n_placed} of them could be placed and tell this: too few to lean on."
    return f"{first}{few} {_of_lists(lists)}"


def _against(ratio: float, se: float) -> tuple[str, str]:
    """Better or not, and by how much."""
    if not np.isfinite(ratio):
        return "no better", "whose error is not beyond the noise of the observations"
    ratio = max(ratio, 0.0)
    doubt = f"standard error {se:.2f}" if np.isfinite(se) else "too few to say how surely"
    return better_or_not(ratio, se), f"{ratio:.2f} times its squared error, {doubt}"


def better_or_not(ratio: float, se: float) -> str:
    """Whether a squared error is surely below another, by their ratio and its standard error; not if that is NaN.

    Examples
    --------
    >>> better_or_not(0.5, 0.1), better_or_not(0.9, 0.1), better_or_not(1.0, 0.1)
    ('better', 'not surely better', 'no better')
    """
    if ratio + STANDARD_ERRORS * se < 1:
        return "better"
    return "not surely better" if f"{ratio:.2f}" < "1.00" else "no better"


def _of_lists(lists: pd.DataFrame) -> str:
    if not len(lists):
        return "There are no gene lists: no list can be checked here."
    row = lists.loc[LIST_LEVEL]
    level, promise, share = f"{LIST_LEVEL:.0%}", f"{row['least_promise']:.0%}", f"{row['share_empty']:.0%}"
    if row["least_promise"] > LIST_LEVEL:
        return f"With so few measured perturbations no list can promise {level} wrong signs; the least promise is {promise}."
    if row["share_empty"] == 1:
        return f"No left-out perturbation had a gene list at {level} wrong signs: the screen does not tell which genes."
    if row["n_listed"] == 0:
        return (
            f"Gene lists that promise at most {level} wrong signs or null effects were empty for {share} of the left-out "
            f"perturbations, and held {row['wrong']:.1%} wrong ones on average (an empty one counts as right)."
        )
    return (
        f"Lists that promise at most {level} wrong signs or null effects had {row['n_listed']:.0f} genes in the median "
        f"({share} were empty) and held {row['wrong']:.1%} wrong ones on average."
    )


BASELINE_RHO = {"mean": 1.0, "zero": 0.0}


@dataclass(frozen=True)
class Calibration:
    """Leave-one-perturbation-out calibration over the measured perturbations.

    Parameters
    ----------
    table
        One row per kind (``single`` or ``combination``) and level: ``coverage`` and its standard error clustered by
        perturbation, ``width`` of the interval, ``interval_score`` (less is better; of the interval widened by the noise
        of the observation), and the same of the baselines ``mean`` (of the references) and ``zero``.
    pit
        (K, G) level at which the interval just covers; uniform on [0, 1] when calibrated. NaN where a gene varies nowhere.
    tuned
        One row per kind: ``n_reference``; ``n_placed``, those that the others can place, on which the evidence rests; ``rho``
        and the weight of every predictor (``generated`` is lambda).
    evidence
        One row per kind: squared error of left-out predictions over that of the mean and of no effect, known noise taken out,
        with standard errors: ``relative_to_mean, relative_to_mean_se, relative_to_zero, relative_to_zero_se``. Errors are
        summed over perturbations, so strong ones count for more.
    placebo
        One row a permutation of the single perturbations' gene vectors among them: ``weight`` of the centred predictors, which
        should be near zero, ``relative_to_mean, relative_to_zero`` of the left-out error, the smaller of which should not be
        below one by more than chance.
    lists
        One row per kind and level, of the gene list of each reference, made by the others: ``n_listed`` (median),
        ``share_empty``, ``wrong`` (share of wrong signs or null effects, an empty list counted as right), ``wrong_se``,
        ``wrong_if_any`` (of lists that are not empty), ``pooled`` (of all listed genes), ``least_promise``.
    signs
        One row per kind and class of ``lfsr``, ``lfsr_from`` to ``lfsr_to``: ``n_references`` and ``n_signs`` in it, mean
        ``lfsr``, and the share of observed signs that differ from the predicted ones, ``expected`` (the observation's own noise
        reckoned with) and ``observed``, with the standard error ``observed_se`` of their difference over references.
    accuracy
        One row per kind: mean ``correlation`` of prediction and truth, shares ``right_20, right_50`` of right signs among the
        first genes, ``expected_against_realised`` (Spearman correlation of what :meth:`DBDiffusion.target_confidence` would
        have said with what came out) and ``interval_holds`` (share inside its 90 % interval).
    thirds
        One row per kind, ``by`` (``strength`` of the prediction, ``similarity`` of the nearest measured one) and ``third``:
        ``coverage`` of 95 % intervals inside it.
    verdict
        All that in two sentences.

    Examples
    --------
    >>> calibration = model.calibration(n_cells=64)
    >>> calibration.evidence.columns.tolist()[:2]
    ['relative_to_mean', 'relative_to_mean_se']
    >>> calibration.verdict.startswith("On this screen")
    True
    """

    table: pd.DataFrame
    pit: pd.DataFrame
    tuned: pd.DataFrame
    evidence: pd.DataFrame
    placebo: pd.DataFrame
    lists: pd.DataFrame
    signs: pd.DataFrame
    accuracy: pd.DataFrame
    thirds: pd.DataFrame
    verdict: str


IN_WORDS = {"single": "Single perturbations", "combination": "Combinations"}


def calibrate(predictor: Predictor, recipe: Recipe, levels: Sequence[float]) -> Calibration:
    """Judge every reference by the others.

    Raises
    ------
    ValueError
        If no kind has ten references, or a level is out of range.
    """
    levels = _check_levels(levels)
    pool = predictor.references(recipe)
    tuned_as_ever = replace(recipe, method="cross_fit", lam=None)
    tables, pits = [], []
    tuned: dict[str, dict[str, Any]] = {}
    evidence: dict[str, dict[str, float]] = {}
    lists, thirds, signs = [], [], []
    accuracy: dict[str, dict[str, float]] = {}
    verdicts: dict[str, str] = {}
    nothing = pd.DataFrame()
    for kind in ("single", "combination"):
        members = np.flatnonzero(pool.is_combination == (kind == "combination"))
        if len(members) < MIN_TO_JUDGE:
            continue
        fitted = predictor.fitted(tuned_as_ever, kind)
        rectifier, references = cast("Rectifier", fitted.rectifier), fitted.references
        summary, pit = _against_baselines(rectifier, references, levels)
        tables.append(summary.reset_index().assign(kind=kind))
        pits.append(pd.DataFrame(pit, index=[pool.names[i] for i in members], columns=predictor.screen.var_names))
        tuned[kind] = {"n_reference": len(members), "n_placed": int(pool.is_placed[members].sum())}
        tuned[kind] |= {"rho": rectifier.rho, **rectifier.weights}
        evidence[kind] = _ratios(left_out_evidence(rectifier, references))
        signs += [left_out_signs(fitted.signs).assign(kind=kind)] if fitted.signs is not None else []
        of_lists, confidence = lists_and_confidence(predictor, recipe, fitted, members, combination=kind == "combination")
        lists += [of_lists.reset_index().assign(kind=kind)] if len(of_lists) else []
        accuracy[kind] = accuracy_of(confidence)
        known = {"strength": (rectifier.loo_predicted**2).sum(axis=1)}
        known |= {} if pool.similarity is None else {"similarity": pool.similarity[members]}
        thirds.append(coverage_in_thirds(pit, known).assign(kind=kind))
        verdicts[kind] = verdict_of(pd.Series(evidence[kind]), of_lists, tuned[kind]["n_placed"])
        if kind == "single":
            nothing = placebo(predictor, recipe, members)
    if not tables:
        msg = (
            f"Calibration needs at least {MIN_TO_JUDGE} measured perturbations of a kind that could be predicted without "
            f"their cells, got {len(pool.names)}. Measure more, or give vectors for those without a measured gene."
        )
        raise ValueError(msg)
    return Calibration(
        table=pd.concat(tables, ignore_index=True),
        pit=pd.concat(pits),
        tuned=pd.DataFrame(tuned).T,
        evidence=pd.DataFrame(evidence).T,
        placebo=nothing,
        lists=pd.concat(lists, ignore_index=True) if lists else pd.DataFrame(),
        signs=pd.concat(signs, ignore_index=True) if signs else pd.DataFrame(),
        accuracy=pd.DataFrame(accuracy).T,
        thirds=pd.concat(thirds, ignore_index=True),
        verdict=next(iter(verdicts.values()))
        if len(verdicts) == 1
        else "\n".join(f"{IN_WORDS[kind]}: {verdict}" for kind, verdict in verdicts.items()),
    )


def _against_baselines(
    rectifier: Rectifier, references: References, levels: tuple[float, ...]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Coverage, width and score by level beside those of the baselines, and the probability integral transform (K, G)."""
    counted = ~references.is_own_gene & rectifier.spread_from[:, None]
    observed = references.without_own_genes()
    summary, pit = _judge(rectifier, observed, counted, levels)
    for name, rho in BASELINE_RHO.items():
        baseline = fit_rectifier(references, lam=0.0, rho=rho)
        other = _judge(baseline, observed, counted, levels)[0].drop(columns="coverage_se")
        summary = summary.join(other.add_suffix(f"_{name}"))
    return summary, pit


def _judge(
    rectifier: Rectifier, references: References, counted: np.ndarray, levels: tuple[float, ...]
) -> tuple[pd.DataFrame, np.ndarray]:
    """Coverage, width and score by level, and the probability integral transform (K, G)."""
    estimate, noise = leave_one_out(rectifier, references), rectifier.known_noise(references)
    error = estimate.effect - references.effect
    counted = counted & (noise + estimate.se**2 > 0)
    pit = np.where(counted, two_sided_pit(error, estimate.se, estimate.df, noise), np.nan)
    covered = coverage(pit, levels)
    rows = {}
    for level in levels:
        half = stats.t.ppf(0.5 + level / 2, estimate.df) * estimate.se
        widened = np.sqrt(half**2 + stats.norm.ppf(0.5 + level / 2) ** 2 * noise)
        rows[level] = {
            "coverage": covered[level][0],
            "coverage_se": covered[level][1],
            "width": float(2 * half[counted].mean()),
            "interval_score": float(interval_score(error, widened, level)[counted].mean()),
        }
    return pd.DataFrame(rows).T.rename_axis("level"), pit


def _ratios(evidence: Evidence) -> dict[str, float]:
    ratios = {kind: evidence.ratio(kind) for kind in ("mean", "zero")}
    return {f"relative_to_{kind}{suffix}": ratios[kind][i] for kind in ratios for i, suffix in enumerate(("", "_se"))}


def _check_levels(levels: Sequence[float]) -> tuple[float, ...]:
    levels = unwrapped(levels)
    if isinstance(levels, str | bytes) or not isinstance(levels, Iterable) or not (listed := tuple(levels)):
        msg = f"`levels` must be numbers strictly between 0 and 1, at least one, got {levels!r}."
        raise ValueError(msg)
    return tuple(real_number("levels", level, 0, 1, strictly=True) for level in listed)


# What the test of measured perturbations says of control cells, where nothing happened.


NULL_LEVELS = (0.05, 0.01)
FDR = 0.05
EXPRESSION_CLASSES = (MIN_EXPRESSING, 20.0, 100.0)  # expected expressing cells; below the first there is no test


@dataclass(frozen=True)
class NullCalibration:
    """Tests of control cells against control cells.

    Parameters
    ----------
    table
        One row a split: ``n_cells, below_0.05, below_0.01`` (shares of the genes that are tested) and ``n_discoveries`` at a
        false discovery rate of 5 %.
    p_values
        (splits, G); NaN for genes that are not tested: they do not vary, or fewer than five cells can be expected to express
        them.
    by_expression
        One row a class of expected expressing cells, those that are not tested among them: ``n_tests, below_0.05,
        below_0.01``, all splits together. Below the least class the normal approximation need not hold, and that is why.

    Examples
    --------
    >>> null = model.null_calibration(n_splits=2)
    >>> null.p_values.shape == (2, adata.n_vars)
    True
    """

    table: pd.DataFrame
    p_values: pd.DataFrame
    by_expression: pd.DataFrame


def judge_nulls(null: ObservedEffects, var_names: np.ndarray) -> NullCalibration:
    """Judge contrasts of control cells against control cells, one a split.

    Examples
    --------
    >>> screen = model.predictor().screen
    >>> judge_nulls(screen.observed, screen.var_names).table.columns.tolist()
    ['n_cells', 'below_0.05', 'below_0.01', 'n_discoveries']
    """
    estimate = observed_estimate(null)
    varying = np.where(estimate.se > 0, estimate.p_value(), np.nan)
    p_values = np.where(null.can_be_tested, varying, np.nan)
    shares = {f"below_{level:g}": _share(p_values < level, np.isfinite(p_values)) for level in NULL_LEVELS}
    discoveries = (adjust_p_values(p_values) <= FDR).sum(axis=1)
    table = pd.DataFrame({"n_cells": null.n_cells, **shares, "n_discoveries": discoveries})
    return NullCalibration(table, pd.DataFrame(p_values, columns=var_names), _by_expression(varying, null.n_expressing))


def _by_expression(p_values: np.ndarray, n_expressing: np.ndarray) -> pd.DataFrame:
    """Shares of p-values (splits, G) below each level, by expected expressing cells."""
    varies = np.isfinite(p_values)
    of_class = np.digitize(n_expressing, EXPRESSION_CLASSES)
    edges = [0.0, *EXPRESSION_CLASSES, np.inf]
    rows = {}
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = p_values[varies & (of_class == i)]
        name = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"
        shares = {f"below_{level:g}": float(np.mean(inside < level)) if inside.size else np.nan for level in NULL_LEVELS}
        rows[name] = {"n_tests": inside.size, **shares}
    return pd.DataFrame(rows).T.rename_axis("expected_expressing").astype({"n_tests": int})


def _share(chosen: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return (chosen & counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
