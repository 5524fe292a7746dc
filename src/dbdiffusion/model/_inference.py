"""Effects of perturbations as tables: questions that the predictor of a screen answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from dbdiffusion._words import real_number
from dbdiffusion.model._each_context import in_each_context
from dbdiffusion.model._generation import GenerationMixin
from dbdiffusion.model._screen import ScreenReader
from dbdiffusion.model._targets import check_not_control
from dbdiffusion.predict import GenerationOptions, Predictor, Recipe, observed_table
from dbdiffusion.screen import listed_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


class InferenceMixin(GenerationMixin):
    """``differential_expression_ppi``, ``predict_effects`` and ``observed_effects``."""

    _context_name: str | None = None
    cross_fit_: dict | None

    @in_each_context
    def differential_expression_ppi(
        self,
        targets: str | Sequence[str] | None = None,
        method: str = "cross_fit",
        confidence: float = 0.95,
        interval: str = "prediction",
        cross_fitting: str = "embedding",
        lam: float | None = None,
        shrink: bool = False,
        fdr: str = "target",
        lfc_threshold: float = 0.0,
        n_cells: int = 512,
        guidance_scale: float = 1.0,
        n_steps: int | None = None,
        sampler: str = "dpm++",
        batch: str | None = None,
        seed: int = 0,
        context: str | Sequence[str] | None = None,
        covariates: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Differential expression against control, of measured and of unseen perturbations.

        A measured perturbation gets its observed contrast (Welch, inside batches). An unseen one gets a rectified
        prediction: generated and linear predictions, stacked on reference perturbations that were predicted as if they had
        not been measured, with a prediction interval for a *new* perturbation.

        Parameters
        ----------
        targets
            Names; None means every registered perturbation but control.
        method
            ``"cross_fit"``, ``"hierarchical"`` (the same references in a Bayesian model with heavy tails, fitted by Pyro), or
            ``"paper"`` (Shang, Wei & Roeder 2025: in-sample residuals of the located cluster, weight 1; it covers an unseen
            perturbation far less often than it says and is here for comparison).
        confidence
            Of the intervals.
        interval
            ``"prediction"``: for a new perturbation. ``"mean"``: for the mean of the references, which is narrower and says
            nothing about one perturbation.
        cross_fitting
            How references are predicted as if they had not been measured. ``"embedding"`` (the same networks, the embedding
            they would have had), ``"k_fold"`` (the diffusion retrained without them, see :meth:`cross_fit`) or
            ``"in_sample"`` (not at all; for comparison).
        lam
            Weight of the generated mean; None tunes it, together with those of the linear predictors. 0 is the mean of the
            references, 1 plain prediction-powered inference without linear predictors.
        shrink
            Whether measured perturbations are shrunk towards their own cross-fitted predictions (empirical Bayes): more
            power for those with few cells. Intervals and p-values are then the posterior's; adjusted p-values allow for what
            shrunk p-values are where nothing changed, so they control the false discovery rate even if predictions are wrong.
        fdr
            Benjamini-Hochberg inside each ``"target"``, or over ``"all"``.
        lfc_threshold
            Smallest effect of interest, as log2 fold change; p-values test that the effect is not larger.
        n_cells, guidance_scale, n_steps, sampler, batch, seed, covariates
            How means are generated, see :meth:`generate`.
        context
            Name or names of contexts; None means all. The table then has a column ``context``. Only with a ``context_key``.

        Returns
        -------
        DataFrame
            One row per target and gene, sorted by p-value inside a target, columns in this order: ``target, variable, effect``
            (mean log1p CP10K minus control's, natural log)``, log_fc`` (effect / ln 2)``, se, df, ci_low, ci_high, statistic,
            p_value, adj_p_value, mean_target, mean_control, lam`` (weight of the generated mean)``, tau`` (standard deviation
            between perturbations around the prediction)``, n_reference`` (number of references)``,
            n_expressing`` (cells of a measured target that can be expected to express the gene; below five there is no p-value,
            and the gene does not count in the adjustment; NaN for unseen targets)``, status`` (``measured`` or
            ``unseen``)``, contrast``.
            Run parameters, predictor weights included, are in ``.attrs``.

        Raises
        ------
        RuntimeError
            If a stage is not trained.
        KeyError
            If nothing places a target.
        ValueError
            If an option is out of range.

        Warns
        -----
        FewReferencesWarning
            With fewer than three references: effects without errors.

        Notes
        -----
        The interval holds on average over perturbations that are like the references; it is no promise about one of them.
        The perturbed gene's own effect is not predicted by others and should be read with care.

        Examples
        --------
        >>> de = model.differential_expression_ppi([unseen[0], model.perturbation_names[0]], n_cells=64)
        >>> de.groupby("target", sort=False)["status"].first().tolist()
        ['unseen', 'measured']
        >>> bool((de["ci_low"] < de["ci_high"]).all())
        True
        """
        del context  # dealt with by the decorator
        table = self._effects(
            targets, guidance_scale, n_steps, sampler, batch, seed, covariates,
            method=method, interval=interval, cross_fitting=cross_fitting, lam=lam,
            n_cells=n_cells, confidence=confidence, fdr=fdr, lfc_threshold=lfc_threshold, shrink=shrink,
        )  # fmt: skip
        order = {name: i for i, name in enumerate(table["target"].unique())}
        rank = table["target"].map(order)
        return (
            table.assign(_rank=rank).sort_values(["_rank", "p_value"], kind="stable", ignore_index=True).drop(columns="_rank")
        )

    @in_each_context
    def predict_effects(self, targets: str | Sequence[str], **options: object) -> pd.DataFrame:
        """Effects of named perturbations, genes in the order of ``var_names``.

        Parameters
        ----------
        targets
            Names, measured or not.
        **options
            As in :meth:`differential_expression_ppi`.

        Returns
        -------
        DataFrame
            The same table, unsorted.

        Examples
        --------
        >>> effects = model.predict_effects(unseen, n_cells=64)
        >>> effects["variable"].tolist() == 2 * adata.var_names.tolist()
        True
        """
        return self._effects(targets, **options)  # type: ignore[arg-type]

    @in_each_context
    def target_confidence(
        self,
        targets: str | Sequence[str] | None = None,
        confidence: float = 0.9,
        cross_fitting: str = "embedding",
        n_cells: int = 512,
        seed: int = 0,
        context: str | Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """How far to trust the prediction of each target, before anyone measures it.

        Measured perturbations were predicted as if they had not been measured. How right those predictions are follows what
        is known of a target without its cells: the size of its prediction, how much its measured neighbours agree, and how
        similar the nearest is. See :mod:`dbdiffusion.inference`.

        Parameters
        ----------
        targets
            Names; None means every registered perturbation but control.
        confidence
            Of the intervals.
        cross_fitting, n_cells, seed
            As in :meth:`differential_expression_ppi`.
        context
            Name or names of contexts; None means all. The table then has a column ``context``. Only with a ``context_key``.

        Returns
        -------
        DataFrame
            One row a target, columns in this order: ``target, status, correlation`` (expected, of predicted and true effects
            over genes)``, correlation_low, correlation_high`` (interval of this target's own)``, right_20`` (expected share of
            right signs among its 20 largest effects; a gene that does not change counts one half)``, right_20_low,
            right_20_high, right_50, right_50_low, right_50_high, nearest`` (the most similar measured perturbations)``,
            similarity`` (cosine with the nearest)``, strategy, told_apart`` (whether it gets another answer than any other
            target would)``, n_cells, n_cells_used`` (see :meth:`target_cells`). Expectations are missing for measured
            perturbations, for a prediction of no effect, with fewer than ten references, and without control cells to halve.

        Raises
        ------
        KeyError
            If nothing places a target.
        ValueError
            If an option is out of range.

        Examples
        --------
        >>> trust = model.target_confidence(unseen, n_cells=64)
        >>> trust["target"].tolist() == list(unseen)
        True
        >>> trust.columns[2:5].tolist()
        ['correlation', 'correlation_low', 'correlation_high']
        """
        del context  # dealt with by the decorator
        recipe = Recipe(
            GenerationOptions(seed=seed),
            cross_fitting=cross_fitting,
            n_cells=n_cells,
            confidence=confidence,
        )
        predictor = self._predictor_for(recipe)
        names = self._target_names(targets, predictor)
        cells = self.target_cells(names)  # type: ignore[attr-defined]
        if self._context_name is not None:
            cells = cells[cells["context"] == self._context_name].drop(columns="context")
        return predictor.confidence(names, recipe).merge(cells, on="target", how="left", validate="one_to_one")

    def observed_effects(self, adata: AnnData | None = None, confidence: float = 0.95) -> pd.DataFrame:
        """Observed contrasts of every perturbation with cells, by Welch's test inside batches. Needs no training.

        Parameters
        ----------
        adata
            Another AnnData, registered by :meth:`setup_anndata`, with control cells of its own; None means the model's.
        confidence
            Of the intervals.

        Returns
        -------
        DataFrame
            The table of :meth:`differential_expression_ppi`, genes in the order of ``var_names``; with contexts, one after the
            other and a column ``context``.

        Examples
        --------
        >>> observed = model.observed_effects()
        >>> len(observed) == len(model.perturbation_names) * adata.n_vars
        True
        """
        confidence = real_number("confidence", confidence, 0, 1, strictly=True)
        contexts = self.contexts if self._context_name is None else (self._context_name,)
        reader = ScreenReader(self._manager_of(adata, contexts))

        def table(context: str | None) -> pd.DataFrame:
            return observed_table(*reader.effects(context), reader.var_names, reader.control, confidence)

        if not self.contexts:
            return table(self._context_name)
        return pd.concat([table(name).assign(context=name) for name in self.contexts], ignore_index=True)

    def _effects(
        self,
        targets: str | Sequence[str] | None,
        guidance_scale: float = 1.0,
        n_steps: int | None = None,
        sampler: str = "dpm++",
        batch: str | None = None,
        seed: int = 0,
        covariates: dict[str, Any] | None = None,
        **of_recipe: Any,
    ) -> pd.DataFrame:
        """The table, genes in the order of the screen; other options are those of a recipe."""
        options = GenerationOptions(guidance_scale, sampler, n_steps, self._batch_code(batch), seed, self._fixed(covariates))
        recipe = Recipe(options, **of_recipe)
        predictor = self._predictor_for(recipe)
        table = predictor.effects(self._target_names(targets, predictor), recipe)
        table.attrs |= self._provenance()
        return table

    def _predictor_for(self, recipe: Recipe) -> Predictor:
        """The predictor, its folds retrained first where the recipe asks for them."""
        if recipe.cross_fitting == "k_fold" and self.cross_fit_ is None:
            self.cross_fit()  # type: ignore[attr-defined]
        return self.predictor()

    def _target_names(self, targets: str | Sequence[str] | None, predictor: Predictor) -> list[str]:
        names = self.perturbation_names if targets is None else self._canonical(listed_names(targets))
        check_not_control(names, predictor.screen.control)
        return list(dict.fromkeys(names))
