"""Calibration on a user's own screen: measured perturbations as if unseen, and control cells as if perturbed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from dbdiffusion.inference import adjust_p_values, fit_rectifier, leave_one_out, left_out_evidence
from dbdiffusion.metrics import coverage, interval_score, two_sided_pit
from dbdiffusion.model._answers import Way, observed_estimate, pool_of
from dbdiffusion.model._each_context import asks_for_context
from dbdiffusion.model._generate import GenerationOptions
from dbdiffusion.model._inference import check_words
from dbdiffusion.model._options import real_number, whole_number
from dbdiffusion.model._placebo import placebo
from dbdiffusion.model._references import references_of
from dbdiffusion.model._screen import ScreenReader
from dbdiffusion.screen import MIN_EXPRESSING, null_contrasts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scvi.model import SCVI as _Base

    from dbdiffusion.inference import Evidence, Rectifier, References
else:
    _Base = object

LEVELS = (0.5, 0.8, 0.9, 0.95)
BASELINE_RHO = {"mean": 1.0, "zero": 0.0}
NULL_LEVELS = (0.05, 0.01)
FDR = 0.05
MIN_TO_JUDGE = 10  # references
EXPRESSION_CLASSES = (MIN_EXPRESSING, 20.0, 100.0)  # expected expressing cells; below the first there is no test


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
        One row per kind: ``n_reference, n_placed, reference_set, rho`` and the weight of every predictor (``generated`` is
        lambda).
    evidence
        One row per kind: squared error of left-out predictions over that of the mean and of no effect, known noise taken out,
        with standard errors: ``relative_to_mean, relative_to_mean_se, relative_to_zero, relative_to_zero_se``.
    placebo
        One row a permutation of the single perturbations' gene vectors among them: ``weight`` of the centred predictors, which
        should be near zero, ``relative_to_mean, relative_to_zero`` of the left-out error, the smaller of which should not be
        below one by more than chance.
    """

    table: pd.DataFrame
    pit: pd.DataFrame
    tuned: pd.DataFrame
    evidence: pd.DataFrame
    placebo: pd.DataFrame


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
    """

    table: pd.DataFrame
    p_values: pd.DataFrame
    by_expression: pd.DataFrame


class CalibrationMixin(_Base):
    """``calibration``, ``null_calibration`` and what they are made of."""

    contexts: tuple[str, ...]
    _context_name: str | None = None

    @asks_for_context
    def calibration(
        self,
        levels: Sequence[float] = LEVELS,
        cross_fitting: str = "embedding",
        reference_set: str = "auto",
        n_cells: int = 512,
        seed: int = 0,
    ) -> Calibration:
        """How often would the intervals have covered the measured perturbations, had each been unseen?

        Parameters
        ----------
        levels
            Nominal, between 0 and 1.
        cross_fitting, reference_set, n_cells, seed
            As in :meth:`differential_expression_ppi`.

        Returns
        -------
        Calibration
            Perturbations of a kind that has fewer than ten references are left out.

        Raises
        ------
        ValueError
            If no kind has ten references, or a level is out of range.

        Notes
        -----
        Everything that is tuned on references is tuned without the perturbation at hand, but the networks have seen its
        cells unless ``cross_fitting="k_fold"``. Genes that a perturbation itself hits do not count.

        Examples
        --------
        >>> calibration = model.calibration(n_cells=64)
        >>> calibration.table["level"].tolist()
        [0.5, 0.8, 0.9, 0.95]
        """
        way = Way(GenerationOptions(seed=seed), cross_fitting=cross_fitting, reference_set=reference_set, n_cells=n_cells)
        check_words(way)
        levels = _check_levels(levels)
        pool = pool_of(self, way)
        tables, pits = [], []
        tuned: dict[str, dict[str, Any]] = {}
        evidence: dict[str, dict[str, float]] = {}
        nothing = pd.DataFrame()
        for kind in ("single", "combination"):
            members = np.flatnonzero(pool.is_combination == (kind == "combination"))
            if len(members) < MIN_TO_JUDGE:
                continue
            references = references_of(self, pool, members, reference_set)
            rectifier = fit_rectifier(references)
            counted = ~references.is_own_gene & rectifier.spread_from[:, None]
            observed = references.without_own_genes()
            summary, pit = _judge(rectifier, observed, counted, levels)
            for name, rho in BASELINE_RHO.items():
                baseline = fit_rectifier(references, lam=0.0, rho=rho)
                other = _judge(baseline, observed, counted, levels)[0].drop(columns="coverage_se")
                summary = summary.join(other.add_suffix(f"_{name}"))
            tables.append(summary.reset_index().assign(kind=kind))
            names = [pool.names[i] for i in members]
            pits.append(pd.DataFrame(pit, index=names, columns=self._screen().var_names))
            tuned[kind] = {"n_reference": len(members), "n_placed": int(pool.is_placed[members].sum())}
            tuned[kind] |= {"reference_set": rectifier.reference_set, "rho": rectifier.rho, **rectifier.weights}
            evidence[kind] = _ratios(left_out_evidence(rectifier, references))
            if kind == "single":
                nothing = placebo(self, way, members)
        if not tables:
            msg = (
                f"Calibration needs at least {MIN_TO_JUDGE} measured perturbations of a kind that could be predicted without "
                f"their cells, got {len(pool.names)}. Measure more, or give vectors for those without a measured gene."
            )
            raise ValueError(msg)
        return Calibration(
            pd.concat(tables, ignore_index=True), pd.concat(pits), pd.DataFrame(tuned).T, pd.DataFrame(evidence).T, nothing
        )

    @asks_for_context
    def null_calibration(self, n_splits: int = 20, n_cells: int | None = None, seed: int = 0) -> NullCalibration:
        """What does the test of measured perturbations say of control cells, where nothing happened?

        Parameters
        ----------
        n_splits
            Pseudo-perturbations drawn from the control cells and tested against the others, inside batches.
        n_cells
            Of each; None takes the median number of cells of the measured perturbations, half the control cells at most.
        seed
            Of the draws.

        Returns
        -------
        NullCalibration

        Raises
        ------
        ValueError
            If there are too few control cells, or a number is out of range.

        Examples
        --------
        >>> null = model.null_calibration(n_splits=3)
        >>> null.table.columns.tolist()
        ['n_cells', 'below_0.05', 'below_0.01', 'n_discoveries']
        """
        n_splits, seed = whole_number("n_splits", n_splits, 1), whole_number("seed", seed)
        n_cells = None if n_cells is None else whole_number("n_cells", n_cells, 2)
        reader = ScreenReader(self.adata_manager)
        values, batch = reader.control_cells(self._context_name)
        if n_cells is None:
            n_cells = int(min(np.median(reader.perturbation_sizes(self._context_name)), values.shape[0] // 2))
        null = null_contrasts(values, batch, n_cells, n_splits, seed)
        estimate = observed_estimate(null)
        varying = np.where(estimate.se > 0, estimate.p_value(), np.nan)
        p_values = np.where(null.can_be_tested, varying, np.nan)
        shares = {f"below_{level:g}": _share(p_values < level, np.isfinite(p_values)) for level in NULL_LEVELS}
        discoveries = (adjust_p_values(p_values) <= FDR).sum(axis=1)
        table = pd.DataFrame({"n_cells": null.n_cells, **shares, "n_discoveries": discoveries})
        return NullCalibration(
            table, pd.DataFrame(p_values, columns=reader.var_names), _by_expression(varying, null.n_expressing)
        )

    @asks_for_context
    def reference_predictions(self, cross_fitting: str = "embedding", n_cells: int = 512, seed: int = 0) -> pd.DataFrame:
        """Measured perturbations, predicted as if they had not been measured: what the rectifier learns from.

        Parameters
        ----------
        cross_fitting, n_cells, seed
            As in :meth:`differential_expression_ppi`.

        Returns
        -------
        DataFrame
            One row per reference and gene: ``target, variable, observed``, then one column a predictor.

        Examples
        --------
        >>> model.reference_predictions(n_cells=64).columns.tolist()
        ['target', 'variable', 'observed', 'generated', 'knn', 'ridge']
        """
        way = Way(GenerationOptions(seed=seed), cross_fitting=cross_fitting, n_cells=n_cells)
        check_words(way)
        pool, screen = pool_of(self, way), self._screen()
        shape = (len(pool.rows), len(screen.var_names))
        columns = {"observed": screen.observed.effect[pool.rows], **pool.predicted}
        table = pd.DataFrame({name: np.broadcast_to(values, shape).ravel() for name, values in columns.items()})
        table.insert(0, "variable", np.tile(screen.var_names, shape[0]))
        table.insert(0, "target", np.repeat(pool.names, shape[1]))
        return table


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


def _share(chosen: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return (chosen & counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)


def _check_levels(levels: Sequence[float]) -> tuple[float, ...]:
    if isinstance(levels, str) or not isinstance(levels, Iterable) or not (listed := tuple(levels)):
        msg = f"`levels` must be numbers strictly between 0 and 1, at least one, got {levels!r}."
        raise ValueError(msg)
    return tuple(real_number("levels", level, 0, 1, strictly=True) for level in listed)
