"""Calibration on a user's own screen: measured perturbations as if unseen, and control cells as if perturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion._words import whole_number
from dbdiffusion.model._each_context import asks_for_context
from dbdiffusion.model._inference import InferenceMixin
from dbdiffusion.model._screen import ScreenReader
from dbdiffusion.predict import Calibration, GenerationOptions, NullCalibration, Recipe, judge_nulls
from dbdiffusion.screen import null_contrasts

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

LEVELS = (0.5, 0.8, 0.9, 0.95)


class CalibrationMixin(InferenceMixin):
    """``calibration``, ``null_calibration`` and ``reference_predictions``."""

    @asks_for_context
    def calibration(
        self,
        levels: Sequence[float] = LEVELS,
        cross_fitting: str = "embedding",
        n_cells: int = 512,
        seed: int = 0,
    ) -> Calibration:
        """How often would the intervals have covered the measured perturbations, had each been unseen?

        Parameters
        ----------
        levels
            Nominal, between 0 and 1.
        cross_fitting, n_cells, seed
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
        options = GenerationOptions(seed=seed)
        recipe = Recipe(options, cross_fitting=cross_fitting, n_cells=n_cells)
        return self._predictor_for(recipe).calibration(recipe, levels)

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
        return judge_nulls(null_contrasts(values, batch, n_cells, n_splits, seed), reader.var_names)

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
        recipe = Recipe(GenerationOptions(seed=seed), cross_fitting=cross_fitting, n_cells=n_cells)
        return self._predictor_for(recipe).reference_table(recipe)
