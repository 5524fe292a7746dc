"""The object that answers: what was measured, where perturbations lie, and what generates cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion.predict._answers import measured_answers, paper_answers, rectified_answers, shrunk_answers
from dbdiffusion.predict._calibration import Calibration, calibrate
from dbdiffusion.predict._fitted import Fitted, fit
from dbdiffusion.predict._own import check_predicted
from dbdiffusion.predict._pool import ReferencePool, predictions, reference_pool
from dbdiffusion.predict._table import answers_table
from dbdiffusion.predict._target_confidence import confidence_table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dbdiffusion.diffusion import LatentDiffusion
    from dbdiffusion.embedding import LeftOutSpaces, PerturbationSpace
    from dbdiffusion.predict._generator import Generator
    from dbdiffusion.predict._own import OwnTable
    from dbdiffusion.predict._recipe import Recipe
    from dbdiffusion.screen import Screen


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
            check_predicted(self, unseen)
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
        ridge = self.space.with_ranking(("ridge",))
        is_unseen = not self.space.is_measured(name)
        known = is_unseen and self.space.can_learn("ridge") and ridge.can_embed(name)
        return {"mean": mean, "zero": np.zeros_like(mean), "ridge": ridge.predict_effect([name])[0] if known else mean}
