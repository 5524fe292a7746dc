"""The object that answers: what was measured, where perturbations lie, and what generates cells."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion._words import choice, real_number, whole_number, word
from dbdiffusion.diffusion import SAMPLERS, steps_of
from dbdiffusion.predict._answers import answers_table, measured_answers, paper_answers, rectified_answers, shrunk_answers
from dbdiffusion.predict._calibration import Calibration, calibrate, confidence_table
from dbdiffusion.predict._pool import Fitted, ReferencePool, fit, predictions, reference_pool
from dbdiffusion.screen import meant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dbdiffusion.diffusion import LatentDiffusion
    from dbdiffusion.embedding import LeftOutSpaces, PerturbationSpace
    from dbdiffusion.predict._generator import Generator
    from dbdiffusion.predict._rectify import OwnTable
    from dbdiffusion.screen import Screen


# How unseen targets are predicted: every option in one place, read as plain values and refused in words before any work.


N_CELLS = 256  # generated ones that a mean effect is taken over
MOST_GUIDANCE = 100.0  # far above what makes sense; from about 1e19 on the latents overflow
CROSS_FITTING = ("embedding", "k_fold", "in_sample")
WORDS = {
    "method": ("cross_fit", "hierarchical", "paper"),
    "cross_fitting": CROSS_FITTING,
    "interval": ("prediction", "mean"),
    "fdr": ("target", "all"),
}


@dataclass(frozen=True)
class GenerationOptions:
    """How cells are drawn; every field is a plain value, whatever type of number it was given as.

    Parameters
    ----------
    guidance_scale
        1 is none; 100 at most.
    sampler, n_steps
        See :func:`~dbdiffusion.diffusion.sample`.
    batch
        Category of the batch key to generate in; None draws batches as control cells have them.
    seed
        Same seed, same cells.
    fixed
        Covariates that are the same for all cells: registry key, column, and code or value.

    Raises
    ------
    ValueError
        If one is out of range, or no number.

    Examples
    --------
    >>> GenerationOptions(seed=3).seed
    3
    >>> GenerationOptions(guidance_scale=-1.0)
    Traceback (most recent call last):
    ValueError: ...
    """

    guidance_scale: float = 1.0
    sampler: str = "dpm++"
    n_steps: int | None = None
    batch: int | None = None
    seed: int = 0
    fixed: tuple[tuple[str, int, float], ...] = ()

    def __post_init__(self) -> None:
        plain = {
            "sampler": word("sampler", self.sampler, tuple(sorted(SAMPLERS))),
            "guidance_scale": real_number("guidance_scale", self.guidance_scale, 0, MOST_GUIDANCE),
            "seed": whole_number("seed", self.seed),
        }
        n_steps = None if self.n_steps is None else whole_number("n_steps", self.n_steps)
        plain["n_steps"] = steps_of(str(self.sampler), n_steps)  # recorded as it was used
        for name, value in plain.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Recipe:
    """How targets are predicted and tested; see :meth:`DBDiffusion.differential_expression_ppi`.

    Parameters
    ----------
    options
        How cells are drawn.
    method, interval, cross_fitting, lam, n_cells, confidence, fdr, lfc_threshold, shrink
        As there.

    Raises
    ------
    ValueError
        If one is out of range, or none of its words.

    Examples
    --------
    >>> Recipe(GenerationOptions(seed=1), lam=1).lam
    1.0
    """

    options: GenerationOptions
    method: str = "cross_fit"
    interval: str = "prediction"
    cross_fitting: str = "embedding"
    lam: float | None = None
    n_cells: int = N_CELLS
    confidence: float = 0.95
    fdr: str = "target"
    lfc_threshold: float = 0.0
    shrink: bool = False

    def __post_init__(self) -> None:
        plain = {name: word(name, getattr(self, name), words) for name, words in WORDS.items()} | {
            "n_cells": whole_number("n_cells", self.n_cells, 2),  # to average over
            "lam": None if self.lam is None else real_number("lam", self.lam, 0),
            "confidence": real_number("confidence", self.confidence, 0, 1, strictly=True),
            "lfc_threshold": real_number("lfc_threshold", self.lfc_threshold, 0),
            "shrink": choice("shrink", self.shrink),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @property
    def smallest_effect(self) -> float:
        """Of interest, as natural log."""
        return self.lfc_threshold * math.log(2)


@dataclass(frozen=True, eq=False)
class Retrained:
    """A fold of perturbations, and the diffusion that was trained without them.

    Parameters
    ----------
    diffusion
        Of the fold.
    space
        Made without the fold's cells and effects.
    rows
        Of the screen, that the fold leaves out.

    Examples
    --------
    A model has none until its folds were retrained by :meth:`DBDiffusion.cross_fit`:

    >>> model.predictor().retrained
    ()
    """

    diffusion: LatentDiffusion
    space: PerturbationSpace
    rows: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Predictor:
    """Answers questions about one screen, as long as the model it was made by stays as it is.

    Parameters
    ----------
    screen
        What was measured.
    space
        Where perturbations lie.
    left_out
        The spaces without each fold of perturbations.
    generator
        From an embedding to effects and cells.
    own
        Name to table (names x genes) of predictions by another model, stacked beside ours.
    retrained
        Folds whose diffusion was retrained, for ``cross_fitting="k_fold"``.
    revision
        Of the model when the predictor was made.
    revision_now
        Says the model's present one; None for a predictor that no model made.

    Examples
    --------
    >>> from dbdiffusion.predict import GenerationOptions, Recipe
    >>> predictor = model.predictor()
    >>> table = predictor.effects(unseen, Recipe(GenerationOptions(), n_cells=64))
    >>> table["target"].unique().tolist() == unseen
    True
    """

    screen: Screen
    space: PerturbationSpace
    left_out: LeftOutSpaces
    generator: Generator
    own: Mapping[str, OwnTable] = field(default_factory=dict)
    retrained: tuple[Retrained, ...] = ()
    revision: int = 0
    revision_now: Callable[[], int] | None = None
    _pools: dict[tuple, ReferencePool] = field(default_factory=dict, repr=False, init=False)
    _last: dict[tuple, tuple[dict[str, np.ndarray], np.ndarray]] = field(default_factory=dict, repr=False, init=False)
    _fits: dict[tuple, Fitted] = field(default_factory=dict, repr=False, init=False)

    def check_current(self) -> None:
        """Raise if the model has moved on.

        Raises
        ------
        RuntimeError
            If it was trained again, or places perturbations in another way, since the predictor was made.
        """
        if self.revision_now is not None and self.revision_now() != self.revision:
            msg = (
                "The model has been trained again, or places perturbations in another way, since this predictor was made. "
                "Ask the model for a new one: `model.predictor()`."
            )
            raise RuntimeError(msg)

    def references(self, recipe: Recipe) -> ReferencePool:
        """References predicted as if they had not been measured; kept until the next recipe.

        Raises
        ------
        RuntimeError
            If folds are asked for and none was retrained.
        """
        self.check_current()
        if recipe.cross_fitting == "k_fold" and not self.retrained:
            msg = "No fold was retrained, which `cross_fitting='k_fold'` needs. Run `model.cross_fit()`."
            raise RuntimeError(msg)
        key = (recipe.cross_fitting, recipe.n_cells, recipe.options)
        pool = self._pools.get(key)
        if pool is None:
            pool = reference_pool(self, recipe)
            self.forget_references()
            self._pools[key] = pool
        return pool

    def fitted(self, recipe: Recipe, kind: str) -> Fitted:
        """What predicts targets of a kind, ``"single"`` or ``"combination"``; kept as long as the references."""
        pool = self.references(recipe)
        key = (kind, recipe.method, recipe.lam, recipe.smallest_effect)
        if key not in self._fits:
            self._fits[key] = fit(self, recipe, pool, pool.select(combination=kind == "combination"))
        return self._fits[key]

    def predicted(
        self, unseen: Sequence[str], recipe: Recipe, *, generated: bool = True
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """What every predictor says of targets, and the Monte-Carlo variance; kept until other targets are asked for.

        Cells are the dear part: where the generated mean has no weight, zeros may stand for it (``generated=False``).
        """
        key = (tuple(unseen), recipe.cross_fitting, recipe.n_cells, recipe.options, generated)
        if key not in self._last:
            self._last.clear()
            self._last[key] = predictions(self, self.generator, [(self.space, unseen)], recipe, generated=generated)
        return self._last[key]

    def forget_references(self) -> None:
        """Predict references anew when they are asked for."""
        self._pools.clear()
        self._fits.clear()

    def effects(self, names: Sequence[str], recipe: Recipe) -> pd.DataFrame:
        """The table of :meth:`DBDiffusion.differential_expression_ppi`, unsorted.

        Parameters
        ----------
        names
            Canonical, each once, control not among them.
        recipe
            How they are predicted and tested.

        Raises
        ------
        KeyError
            If nothing places a name.
        ValueError
            If p-values of unseen perturbations were to be adjusted together.
        """
        self.check_current()
        unseen = [name for name in names if not self.space.is_measured(name)]
        measured = [name for name in names if self.space.is_measured(name)]
        self.space.embed(unseen)  # raises for what nothing places, before any costly step
        if recipe.method != "paper":
            self._check_own_predict(unseen)
        if recipe.fdr == "all" and unseen and recipe.method == "cross_fit":
            msg = (
                f"`fdr='all'` adjusts p-values of measured perturbations together; {unseen[:3]} are unseen, and their lists "
                "hold the false sign proportion of each target (`fdr='target'`). Ask for measured ones alone."
            )
            raise ValueError(msg)
        is_shrunk = recipe.shrink and measured
        answers = shrunk_answers(self, measured, recipe) if is_shrunk else measured_answers(self, measured)
        fits: dict[str, Fitted] = {}
        if unseen and recipe.method == "paper":
            answers |= paper_answers(self, unseen, recipe)
        elif unseen:
            rectified, fits = rectified_answers(self, unseen, recipe)
            answers |= rectified
        return answers_table(self.screen, self.space, names, answers, fits, recipe)

    def _check_own_predict(self, names: Sequence[str]) -> None:
        """Raise a KeyError unless every added predictor predicts every name."""
        for own, table in self.own.items():
            absent = [name for name in names if not table.holds(name)]
            if absent:
                near = meant(absent[0], list(table.effects.index))
                msg = (
                    f"{absent[:3]} have no row in the predictions of {own!r}.{near} Add them to its table, or take it away "
                    f"with `model.remove_predictor({own!r})`."
                )
                raise KeyError(msg)

    def confidence(self, names: Sequence[str], recipe: Recipe) -> pd.DataFrame:
        """How far to trust each target; see :meth:`DBDiffusion.target_confidence`.

        Raises
        ------
        KeyError
            If nothing places a name.
        """
        self.check_current()
        self.space.embed([name for name in names if not self.space.is_measured(name)])  # raises before any costly step
        return confidence_table(self, names, recipe)

    def calibration(self, recipe: Recipe, levels: Sequence[float]) -> Calibration:
        """How often intervals would have covered the measured perturbations; see :meth:`DBDiffusion.calibration`."""
        self.check_current()
        return calibrate(self, recipe, levels)

    def reference_table(self, recipe: Recipe) -> pd.DataFrame:
        """The table of :meth:`DBDiffusion.reference_predictions`."""
        pool, screen = self.references(recipe), self.screen
        shape = (len(pool.rows), len(screen.var_names))
        columns = {"observed": screen.observed.effect[pool.rows], **pool.predicted}
        table = pd.DataFrame({name: np.broadcast_to(values, shape).ravel() for name, values in columns.items()})
        table.insert(0, "variable", np.tile(screen.var_names, shape[0]))
        table.insert(0, "target", np.repeat(pool.names, shape[1]))
        return table

    def baselines(self, name: str) -> dict[str, np.ndarray]:
        """Simple predictions (G,) of a perturbation; see :meth:`DBDiffusion.baseline_effects`."""
        self.check_current()
        mean = self.screen.observed.effect.mean(axis=0)
        return {"mean": mean, "zero": np.zeros_like(mean), "ridge": self._by_ridge_or_parts(name, mean)}

    def _by_ridge_or_parts(self, name: str, mean: np.ndarray) -> np.ndarray:
        """Ridge regression from gene space; where it cannot tell, the sum of measured parts, or else the mean."""
        if self.space.is_measured(name):
            return mean
        ridge = self.space.with_ranking(("ridge",))
        if self.space.can_learn("ridge") and ridge.can_embed(name):
            return ridge.predict_effect([name])[0]
        parts = self.space.parts(name)
        rows = [row for row in map(self.space.row, parts) if row is not None]
        is_sum = len(parts) > 1 and len(rows) == len(parts)
        return self.screen.observed.effect[rows].sum(axis=0) if is_sum else mean
