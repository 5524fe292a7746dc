"""Calibration on a user's own screen: measured perturbations as if they were unseen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from scipy import stats

from dbdiffusion._words import real_number
from dbdiffusion.inference import fit_rectifier, leave_one_out, left_out_evidence, left_out_signs
from dbdiffusion.metrics import coverage, interval_score, two_sided_pit
from dbdiffusion.predict._placebo import placebo
from dbdiffusion.predict._trust import accuracy_of, coverage_in_thirds, lists_and_confidence, verdict_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.inference import Evidence, Rectifier, References
    from dbdiffusion.predict._predictor import Predictor
    from dbdiffusion.predict._recipe import Recipe

BASELINE_RHO = {"mean": 1.0, "zero": 0.0}
MIN_TO_JUDGE = 10  # references


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
        One row per kind: ``n_reference, n_placed, rho`` and the weight of every predictor (``generated`` is
        lambda).
    evidence
        One row per kind: squared error of left-out predictions over that of the mean and of no effect, known noise taken out,
        with standard errors: ``relative_to_mean, relative_to_mean_se, relative_to_zero, relative_to_zero_se``.
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
        verdicts[kind] = verdict_of(pd.Series(evidence[kind]), of_lists)
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
    if isinstance(levels, str) or not isinstance(levels, Iterable) or not (listed := tuple(levels)):
        msg = f"`levels` must be numbers strictly between 0 and 1, at least one, got {levels!r}."
        raise ValueError(msg)
    return tuple(real_number("levels", level, 0, 1, strictly=True) for level in listed)
