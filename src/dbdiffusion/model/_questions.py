"""All questions that can be asked of a screen: of a model, or of a model inside one of its contexts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion._words import real_number, whole_number
from dbdiffusion.model._inference import InferenceMixin, check_not_control
from dbdiffusion.model._predictors import asks_for_context, in_each_context, progress
from dbdiffusion.model._screen import ScreenReader
from dbdiffusion.predict import (
    Calibration,
    GenerationOptions,
    GeneticInteractions,
    NullCalibration,
    Recipe,
    candidate_names,
    candidate_table,
    interactions_of,
    judge_nulls,
    rank,
    suggested,
)
from dbdiffusion.screen import null_contrasts, one_name
from dbdiffusion.storage import to_anndata, write_effects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.predict import Predictor


# Calibration on a user's own screen: measured perturbations as if unseen, and control cells as if perturbed.


LEVELS = (0.5, 0.8, 0.9, 0.95)


class CalibrationMixin(InferenceMixin):
    """``calibration``, ``null_calibration`` and ``reference_predictions``."""

    @asks_for_context
    def calibration(
        self,
        levels: Sequence[float] = LEVELS,
        cross_fitting: str = "embedding",
        n_cells: int = Recipe.n_cells,
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
    def reference_predictions(
        self, cross_fitting: str = "embedding", n_cells: int = Recipe.n_cells, seed: int = 0
    ) -> pd.DataFrame:
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


# Which perturbations do this, which can be asked, which to measure next, which interact, and all of them at once.


class DirectionsMixin(CalibrationMixin):
    """``rank_targets``, ``candidates``, ``suggest_targets``, ``interactions`` and ``write_effects``."""

    @in_each_context
    def rank_targets(
        self,
        direction: Any,
        candidates: str | Sequence[str] | None = None,
        threshold: float = 0.0,
        alternative: str = "greater",
        confidence: float = 0.95,
        n_cells: int = Recipe.n_cells,
        seed: int = 0,
        context: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Which knock-outs do this? Candidates ranked by their effect along one direction over genes.

        Effects are projected first and judged then, by left-out references and without an assumption on how genes' errors are
        correlated. A statement is about what a candidate would show, were it measured with a reference's number of cells,
        against another control mean.

        Parameters
        ----------
        direction
            A gene, a list of genes (their mean), or weights by gene (Series or dict): a signature, or the way from one cell
            state to another, :func:`dbdiffusion.screen.direction_between`.
        candidates
            Names, measured or not; None means all that can be asked, see :meth:`candidates`. With few references short lists
            can be told apart and long ones cannot: a warning says how long.
        threshold
            How far beyond which a candidate must go, on the scale of the direction.
        alternative
            ``"greater"``, ``"less"``, or ``"two-sided"``: farther than the threshold from zero, on the side that is predicted.
        confidence
            Of the intervals. 95 % need 19 references.
        n_cells, seed
            How means are generated.
        context
            Name or names of contexts; None means all. The table then has a column ``context``.

        Returns
        -------
        DataFrame
            One row a candidate, farthest first: ``target, status`` (``measured`` or ``unseen``)``, effect`` (along the
            direction)``, ci_low, ci_high, p_value, q_value`` (Benjamini-Hochberg over the measured, over the
            unseen single ones and over the unseen combinations, each apart)``, correlation`` (how far to trust an unseen
            candidate: expected, of its predicted and true effects over all genes, see :meth:`target_confidence`)``,
            own_gene_in_direction`` (the candidate's own gene has a weight; that gene's effect is not predicted).
            ``attrs["single"]`` and ``attrs["combination"]``: how many candidates can be told apart, and ``head``, the precision
            of the first of the ranking by left-out references, which needs no list; with contexts, one such entry a context.
            Measured candidates have no p-value where most of the direction's noise is of genes that hardly a cell expresses.

        Raises
        ------
        KeyError
            If nothing places a candidate, or a gene is not measured.
        ValueError
            If the direction is empty or an option out of range.

        Notes
        -----
        Intervals are jackknife+ (at least 1 - 2 alpha whatever the predictor, about 1 - alpha where it is stable). P-values are
        conformal (Jin & Candes, JMLR 2023), means over control means that may have been.

        Examples
        --------
        >>> table = model.rank_targets(adata.var_names[5], [*unseen, *model.perturbation_names[:2]], confidence=0.8, n_cells=64)
        >>> sorted(table["status"].unique()), bool((table["effect"].diff().dropna() <= 0).all())
        (['measured', 'unseen'], True)
        """
        del context  # dealt with by the decorator
        recipe = Recipe(GenerationOptions(seed=seed), confidence=confidence, n_cells=n_cells)
        predictor = self._predictor_for(recipe)
        names = candidate_names(predictor.space) if candidates is None else self._target_names(candidates, predictor)
        return rank(predictor, direction, names, recipe, threshold, alternative, progress("Ranking"))

    @asks_for_context
    def candidates(self, names: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Every name that can be asked, so that nobody finds out by an error.

        Parameters
        ----------
        names
            Only these; None means measured perturbations, genes that something places, and names with vectors of your own.
            Any combination of them can be asked, too.

        Returns
        -------
        DataFrame
            One row a name: ``target, status`` (``measured`` or ``unseen``)``, strategy`` (that places it)``, similarity``
            (cosine with the most similar measured perturbation, ``nearest``)``, coherence`` (0 to 1, how much its measured
            neighbours agree; high is to be trusted more).

        Raises
        ------
        KeyError
            If nothing places a name.

        Examples
        --------
        >>> table = model.candidates()
        >>> bool(table["target"].is_unique), set(unseen) <= set(table["target"])
        (True, True)
        """
        predictor = self.predictor()
        return candidate_table(predictor, None if names is None else self._target_names(names, predictor))

    @asks_for_context
    def suggest_targets(self, n: int, candidates: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Which perturbations to measure next, so that most is learnt about those that stay unmeasured.

        An unmeasured gene is predicted from measured ones that are like it. So the genes are taken, one after the other, that
        nothing measured is like yet and that many other unmeasured genes are like: those leave least unknown.

        Parameters
        ----------
        n
            How many.
        candidates
            Names to choose from, which are also those to learn about; None means all that can be asked.

        Returns
        -------
        DataFrame
            In the order of choice: ``rank, target, similarity`` (to the most similar measured perturbation,
            ``nearest``)``, gain`` (how much less uncertain the candidates are with it)``, uncertainty`` (that is then left of
            them on average, if they are like each other as their vectors are: 1 where nothing is known).

        Raises
        ------
        ValueError
            If there are fewer candidates.
        KeyError
            If nothing places one.

        Examples
        --------
        >>> model.suggest_targets(3)["rank"].tolist()
        [1, 2, 3]
        """
        predictor = self.predictor()
        return suggested(predictor, n, None if candidates is None else self._target_names(candidates, predictor))

    @asks_for_context
    def interactions(self, pairs: str | Sequence[str] | None = None, confidence: float = 0.95) -> GeneticInteractions:
        """What pairs do beyond the sum of their parts: buffering, additive or synergistic, and on which genes.

        Parameters
        ----------
        pairs
            Combinations, measured or not; None means all measured ones whose parts were measured.
        confidence
            Of the intervals.

        Returns
        -------
        GeneticInteractions
            Tables of pairs and of their genes. Of a measured pair: observed effect less those of its parts, the error of the
            control cells counted once. Of an unseen pair: where a new pair like the measured ones would lie; which one
            interacts nobody can tell from that.

        Raises
        ------
        ValueError
            If there is no such pair, or a name is no combination.

        Examples
        --------
        >>> model.interactions([f"{unseen[0]}+{unseen[1]}"]).said
        'Only 0 measured pairs tell what pairs do beyond the sum of their parts, and at least 3 are needed: nothing is said.'
        """
        confidence = real_number("confidence", confidence, 0, 1, strictly=True)
        predictor = self.predictor()
        return interactions_of(predictor, None if pairs is None else self._target_names(pairs, predictor), confidence)

    @asks_for_context
    def write_effects(
        self,
        store: str | Path,
        targets: str | Sequence[str] | None = None,
        chunk: int = 100,
        part: tuple[int, int] | None = None,
        **options: Any,
    ) -> Path:
        """Effects of many targets in a zarr store, in little memory; a run that was killed goes on where it stopped.

        Several processes or machines may share the work: each gets the same call with a ``part`` of its own, and the same call
        without one makes what is missing and ends the store. The numbers do not depend on how the work was shared.

        Parameters
        ----------
        store
            Folder that appears when all is done, for instance ``"effects.zarr"``. Until then finished blocks lie beside it.
        targets
            Names; None means all that can be asked, see :meth:`candidates`.
        chunk
            Targets of a block, which are predicted and stored together.
        part
            ``(i, n)``: the i-th of n parts, 1 to n. The store does not appear then.
        **options
            As in :meth:`differential_expression_ppi`.

        Returns
        -------
        Path
            Of the store: an AnnData, targets x genes, as :func:`dbdiffusion.to_anndata` makes it. Read it with
            :func:`anndata.read_zarr`, or without loading it :func:`anndata.experimental.read_lazy`. Of a part, the folder where
            blocks lie until then.

        Raises
        ------
        FileExistsError
            If the store exists.
        ValueError
            If blocks of other targets, options or another model lie there, or an option is out of range.
        KeyError
            If nothing places a target.

        Examples
        --------
        >>> import tempfile
        >>> import anndata
        >>> folder = tempfile.mkdtemp()
        >>> store = model.write_effects(f"{folder}/effects.zarr", unseen, n_cells=64)
        >>> anndata.read_zarr(store).obs_names.tolist() == unseen
        True
        """
        self._check_options(options)
        predictor, chunk = self.predictor(), whole_number("chunk", chunk, 1)
        part = None if part is None else _part(part)
        names = candidate_names(predictor.space) if targets is None else self._target_names(targets, predictor)
        check_not_control(names, predictor.screen.control)
        predictor.space.check_placed([name for name in names if not predictor.space.is_measured(name)])
        return write_effects(
            Path(store),
            names,
            lambda some: to_anndata(self.predict_effects(some, **options)),
            chunk,
            part,
            {"options": options, "model": self._digest(predictor)},
            progress("Effects of targets"),
        )

    def _digest(self, predictor: Predictor) -> str:
        """Of all that answers depend on beside the question: another model's are not to be mixed with them."""
        digest = hashlib.sha256(self.strategy.encode())
        for tensor in self.module.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
        for values in (predictor.screen.observed.effect, *(table.effects.to_numpy() for table in predictor.own.values())):
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


def _part(part: Any) -> tuple[int, int]:
    """The i-th of n, as plain numbers.

    Raises
    ------
    ValueError
        If it is nothing of the kind.
    """
    try:
        i, n = part
    except (TypeError, ValueError) as error:
        msg = f"`part` must be two numbers, the i-th of n, such as (1, 10), got {part!r}."
        raise ValueError(msg) from error
    n = whole_number("part[1]", n, 1)
    return whole_number("part[0]", i, 1, n), n


class Questions(DirectionsMixin):
    """Answered by the :class:`~dbdiffusion.predict.Predictor` that :meth:`predictor` returns."""

    def perturbation_embeddings(self) -> pd.DataFrame:
        """Embeddings (perturbations, E): control, measured, then added ones. Needs stage two.

        Examples
        --------
        >>> table = model.perturbation_embeddings()
        >>> table.index[0], table.shape == (1 + len(model.perturbation_names), 6)
        ('control', True)
        """
        predictor, names = self.predictor(), self.perturbation_names
        rows = np.vstack([predictor.space.control, predictor.space.embed(names)])
        columns = [f"E{i + 1}" for i in range(rows.shape[1])]
        return pd.DataFrame(rows, index=[predictor.screen.control, *names], columns=columns)

    def embedding_scores(self) -> pd.DataFrame:
        """Left-out error of every strategy for unseen perturbations, best first. Needs stage two.

        Every measured perturbation is placed by gene space, principal components and regressions that its fold had no part
        in. ``relative_to_mean`` is the squared error over that of the mean of the others, ``se`` its standard error.

        Examples
        --------
        >>> scores = model.embedding_scores()
        >>> bool(scores["relative_to_mean"].is_monotonic_increasing)
        True
        """
        return self.predictor().left_out.scores()

    def strategy_of(self, name: str) -> str:
        """How a perturbation is placed: ``"measured"``, or its strategies, one a part.

        Examples
        --------
        >>> model.strategy_of(model.perturbation_names[0])
        'measured'
        """
        return self.predictor().space.strategy_of(self._canonical([one_name(name)])[0])

    def parts_of(self, name: str) -> tuple[str, ...]:
        """Parts of a combination; a single perturbation is its only part.

        Examples
        --------
        >>> model.parts_of("GENE00+GENE01")
        ('GENE00', 'GENE01')
        """
        return self.predictor().space.parts(self._canonical([one_name(name)])[0])

    def baseline_effects(self, name: str) -> dict[str, np.ndarray]:
        """Simple predictions (G,) of an unseen perturbation, from measured ones alone.

        ``mean`` of the measured perturbations, ``zero``, and ``ridge`` regression from gene space to effects, which for a
        combination of measured parts is the sum of their effects. Where gene space cannot tell: the sum of measured parts,
        and the mean again for all others.

        Examples
        --------
        >>> sorted(model.baseline_effects(unseen[0]))
        ['mean', 'ridge', 'zero']
        """
        return self.predictor().baselines(self._canonical([one_name(name)])[0])

    def control_variance(self) -> np.ndarray:
        """Sampling variance (G,) of the control mean, which all observed effects share. Needs stage two.

        Examples
        --------
        >>> model.control_variance().shape == (adata.n_vars,)
        True
        """
        return self.predictor().screen.observed.control_variance.mean(axis=0)
