"""Held-out perturbations: their cells, observed effects and split-half ceiling, and tables of many perturbations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from _screens import DATA, FILES, Screen, effects, judged_where, real, screens_of
from scipy import stats

if TYPE_CHECKING:
    import argparse

LEVEL = 0.05


@dataclass(frozen=True)
class Truth:
    """What predictions of a screen's candidates (P, G) are compared with, and what measuring them would have given.

    Deviations from the mean perturbation are compared with effects that, like that mean, are contrasted with the model's own
    control cells (``same_control``), so that the control's error cancels. Left in the mean alone, it would make every small
    prediction look right.
    """

    reference: pd.DataFrame
    same_control: pd.DataFrame
    noise: pd.DataFrame
    significant: pd.DataFrame
    measured: pd.DataFrame
    measured_against: pd.DataFrame
    measured_same_control: pd.DataFrame


def truth_of(screen: Screen, seed: int) -> Truth:
    """Simulated: the truth, and the observed effects as what measuring gives. Real: observed effects, and two halves of cells.

    A half of a perturbation's cells against the model's half of control is compared with the other half against the control
    cells set apart, so both sides are noisier than a whole observation: a ceiling that can be passed by a little.
    """
    observed, variance = effects(screen.train, screen.setup)
    if not screen.is_noisy:
        same_control, of_halves = screen.reference, (observed.loc[screen.candidates], screen.reference, screen.reference)
    else:
        same_control = observed.loc[screen.candidates]
        tables = [effects(half, screen.setup)[0] for half in halves(screen, seed)]
        both = [name for name in screen.candidates if all(name in table.index for table in tables)]
        of_halves = tuple(table.loc[both] for table in tables)
    p = 2 * stats.norm.sf(np.abs(observed.to_numpy()) / np.sqrt(np.maximum(variance.to_numpy(), 1e-12)))
    significant = pd.DataFrame(stats.false_discovery_control(p, axis=1) < LEVEL, observed.index, observed.columns)
    return Truth(screen.reference, same_control, screen.noise, significant.loc[screen.candidates], *of_halves)


def halves(screen: Screen, seed: int) -> tuple[ad.AnnData, ad.AnnData, ad.AnnData]:
    """Two halves of all perturbed cells: with the model's control cells, with those set apart; the second with the former."""
    column = screen.train.obs["perturbation"].astype(str).to_numpy()
    rng = np.random.default_rng(seed)
    side = np.zeros(len(column), dtype=int)
    for name in np.unique(column[column != "control"]):
        rows = rng.permutation(np.flatnonzero(column == name))
        side[rows[: len(rows) // 2]] = 1
    other = side == 1
    is_control = column == "control"
    first, second = screen.train[~other | is_control], screen.train[other | is_control]
    return first.copy(), ad.concat([screen.train[other], screen.apart]), second.copy()


def combinations_of_norman(seed: int) -> Screen:
    """Norman's screen with double activations of measured singles as candidates: predicted from singles and other doubles."""
    singles = real("norman", seed)
    file = ad.read_h5ad(DATA / FILES["norman"])
    column = file.obs["perturbation"].astype(str)
    is_double = column.str.contains("+", regex=False)
    apart = ((column == "control") & ~file.obs_names.isin(singles.train.obs_names)).to_numpy()
    effect, variance = effects(file[(apart | is_double.to_numpy())], singles.setup)
    known = [name for name in effect.index if set(name.split("+")) <= set(singles.candidates)]
    reference = effect.loc[known, singles.reference.columns]
    return replace(
        singles,
        name="norman doubles",
        train=file[~apart].copy(),
        reference=reference,
        noise=variance.loc[known, reference.columns],
        judged=reference.notna(),
    )


def as_measured(screen: Screen) -> Screen:
    """The screen with observed effects to compare with, also where the truth is known; genes too rare to be observed apart."""
    if screen.is_noisy:
        return screen
    effect, variance = effects(screen.train, screen.setup)
    effect, variance = (table.loc[screen.candidates, screen.reference.columns] for table in (effect, variance))
    return replace(screen, reference=effect, noise=variance, judged=judged_where(screen.train, effect))


def screens_or_doubles_of(options: argparse.Namespace, seed: int) -> list[Screen]:
    """Those of :func:`screens_of`, and norman's doubles."""
    return [combinations_of_norman(seed)] if options.screen == "norman-doubles" else screens_of(options, seed)


def ratio_with_interval(numerator: np.ndarray, denominator: np.ndarray) -> tuple[float, float, float]:
    """Ratio of means over perturbations and its 95 % bootstrap interval, perturbations resampled."""
    ratio = lambda a, b, axis=-1: a.mean(axis=axis) / b.mean(axis=axis)  # noqa: E731
    if len(numerator) < 3:
        return float(ratio(numerator, denominator)), np.nan, np.nan
    interval = stats.bootstrap(
        (numerator, denominator), ratio, paired=True, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return float(ratio(numerator, denominator)), float(interval.low), float(interval.high)
