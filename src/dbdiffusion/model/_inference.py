"""Effects of perturbations as tables: questions that the predictor of a screen answers."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from dbdiffusion._keys import REGISTRY
from dbdiffusion._words import known_word, real_number, say, whole_number
from dbdiffusion.data import PerturbationField
from dbdiffusion.diffusion import steps_of
from dbdiffusion.embedding import ALL_STRATEGIES, EffectSpace, PerturbationSpace
from dbdiffusion.model._predictors import PredictorsMixin, in_each_context, progress
from dbdiffusion.model._screen import ScreenReader
from dbdiffusion.predict import GenerationOptions, Predictor, Recipe, observed_table
from dbdiffusion.screen import GeneSpace, listed_names, meant
from dbdiffusion.storage import InMemory, on_disk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from scvi.model import SCVI as _Base
else:
    _Base = object


# Names of targets, whatever they come in, and whether they can be answered: known before anything is trained.


class TargetsMixin(PredictorsMixin):
    """``check_targets``."""

    def check_targets(self, targets: str | Sequence[str]) -> None:
        """Raise unless :meth:`predict_effects` has an answer for every target. Needs no training, so ask before it.

        Parameters
        ----------
        targets
            As there; measured or not.

        Raises
        ------
        KeyError
            If nothing places a target.
        ValueError
            If it is no list of names, control is among them, or the strategy has too little to learn from.

        Examples
        --------
        >>> from dbdiffusion import DBDiffusion, simulate_screen
        >>> adata = simulate_screen(n_genes=40, n_perturbations=6, n_cells_per_perturbation=20, n_control_cells=40)
        >>> DBDiffusion.setup_anndata(adata)
        >>> model = DBDiffusion(adata, n_folds=2)
        >>> model.check_targets(["GENE00", "GENE01+GENE02"])
        """
        names = listed_names(targets)
        state = self.registry_["field_registries"][REGISTRY.PERTURBATION]["state_registry"]
        check_not_control(names, state[PerturbationField.CONTROL])
        for measured in self._measured(state):
            self._prospect(measured, state[PerturbationField.SEPARATOR]).check_placed(names)

    def _measured(self, state: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
        """Names of the perturbations that have cells, in each context."""
        known = [str(name) for name in state[PerturbationField.WITH_CELLS] if name != state[PerturbationField.CONTROL]]
        if not self.contexts or self.adata_manager is None:
            yield tuple(known)
            return
        categories = np.asarray(state[PerturbationField.CATEGORICAL_MAPPING_KEY], dtype=str)
        names = categories[self.adata_manager.get_from_registry(REGISTRY.PERTURBATION).ravel().astype(int)]
        context = self.adata_manager.get_from_registry(REGISTRY.CONTEXT).ravel().astype(int)
        for code in range(len(self.contexts)):
            here = set(names[context == code])
            yield tuple(name for name in known if name in here)

    def _prospect(self, measured: tuple[str, ...], separator: str) -> PerturbationSpace:
        """The space as it will be, but without coordinates: what is measured, which genes there are, who has vectors."""
        genes = self.registry_["field_registries"][REGISTRY_KEYS.X_KEY]["state_registry"]["column_names"]
        nothing = np.zeros((len(genes), 1))
        space = PerturbationSpace(
            measured,
            np.zeros((len(measured), 1)),
            EffectSpace(nothing[:, 0], nothing[:, 0], nothing.T),
            GeneSpace(pd.Index(np.asarray(genes, dtype=str)), nothing),
            self._user_vectors(),
            separator,
            (self.strategy,),
            places_anything=self.strategy == "mean",
        )
        if self.strategy != "auto":
            return space
        return space.with_ranking([s for s in ALL_STRATEGIES if space.can_learn(s)] or ["ridge"])


def check_not_control(names: Sequence[str], control: str) -> None:
    """Raise if control is among the names.

    Raises
    ------
    ValueError
        Then.
    """
    if control in names:
        msg = f"Control {control!r} is what targets are compared with; leave it out of `targets`."
        raise ValueError(msg)


# ``generate``: cells of any perturbation, as AnnData.


class GenerationMixin(_Base):
    """Cells of measured, unseen and combined perturbations."""

    contexts: tuple[str, ...]

    if TYPE_CHECKING:

        @property
        def perturbation_names(self) -> list[str]: ...
        @property
        def strategy(self) -> str: ...
        def predictor(self, context: str | None = None) -> Predictor: ...
        def _canonical(self, names: Sequence[str]) -> list[str]: ...

    def generate(
        self,
        targets: str | Sequence[str],
        n_cells: int = 1000,
        guidance_scale: float = 1.0,
        n_steps: int | None = None,
        sampler: str = "dpm++",
        batch: str | None = None,
        seed: int = 0,
        context: str | None = None,
        covariates: dict[str, Any] | None = None,
        path: str | Path | None = None,
    ) -> AnnData:
        """Generate cells.

        Library sizes, batches and covariates are those of random control cells. With one seed the k-th cell of every target is
        matched to the same control cell and starts from the same noise (common random numbers), so differences between targets
        are free of both. Cells of different targets are then not independent; to pool them, give each target its own seed.

        Parameters
        ----------
        targets
            Perturbations: measured, unseen, combinations ``"A+B"`` in any order, or control.
        n_cells
            Cells of each.
        guidance_scale
            1 is none; 0 is unconditional. Above 1 effects are exaggerated and cells less varied; never do inference with it.
        n_steps, sampler
            See :func:`~dbdiffusion.diffusion.sample`; None means as few as the sampler needs.
        batch
            Category of the batch key to generate in; None draws batches as control cells have them.
        seed
            Same seed, same cells, whatever else is asked for in the call.
        context
            To generate in; needed, and only possible, with a ``context_key``.
        covariates
            Registered covariate to the category or number that all cells get; the others are as control cells have them.
        path
            Of a new h5ad file to write the cells to as they are made: for more than memory holds. The same cells.

        Returns
        -------
        AnnData
            In memory or, with ``path``, backed by the file. Counts in X (cells, G) as CSR; ``obs`` has the perturbation under
            the registered key, ``strategy`` (how it was placed) and ``library_size`` (of the matched control cell: divide by it
            for CP10K), with ``dbdiffusion_`` before the one that is the registered key; ``uns["dbdiffusion"]`` holds seed,
            guidance, sampler and version.

        Raises
        ------
        RuntimeError
            If a stage is not trained; the message names it.
        FileExistsError
            If there is a file at ``path``.
        KeyError
            If nothing places a target.
        ValueError
            If an option is out of range, or the cells do not fit into memory.

        Examples
        --------
        >>> cells = model.generate(unseen, n_cells=5)
        >>> cells.obs["perturbation"].value_counts().tolist()
        [5, 5]
        """
        if context is not None or self.contexts:
            view = self.in_context(context)  # type: ignore[attr-defined]
            way = (n_cells, guidance_scale, n_steps, sampler, batch, seed)
            return view.generate(targets, *way, covariates=covariates, path=path)
        names = self._canonical(listed_names(targets))
        n_cells = whole_number("n_cells", n_cells, 1)
        predictor = self.predictor()
        options = GenerationOptions(guidance_scale, sampler, n_steps, self._batch_code(batch), seed, self._fixed(covariates))
        if path is None:
            return self._fill(InMemory(n_cells * len(names)), predictor, names, n_cells, options)
        with on_disk(Path(path), len(predictor.screen.var_names)) as cells:
            self._fill(cells, predictor, names, n_cells, options)
        return ad.read_h5ad(path, backed="r")

    def _fill(self, cells: Any, predictor: Predictor, names: list[str], n_cells: int, options: GenerationOptions) -> Any:
        """Cells of all targets, a block at a time; returns what holds them."""
        screen, space = predictor.screen, predictor.space
        unseen = [name for name in names if name != screen.control]
        embeddings = dict(zip(unseen, space.embed(unseen), strict=True)) | {screen.control: space.control}
        libraries = []
        for name in progress("Generating cells")(names):
            seeded_by = space.separator.join(sorted(space.parts(name)))
            for counts, matched in predictor.generator.counts(embeddings[name], n_cells, seeded_by, options):
                cells.add(counts)
                libraries.append(screen.library[matched] * screen.depth_per_library)
        strategies = ["control" if name == screen.control else space.strategy_of(name) for name in names]
        columns = {"strategy": _repeated(strategies, n_cells), "library_size": np.concatenate(libraries)}
        key = self._perturbation_key  # which may have any name
        beside = {f"dbdiffusion_{name}" if name == key else name: values for name, values in columns.items()}
        columns = {key: _repeated(names, n_cells), **beside}
        obs = pd.DataFrame(columns, index=[f"generated{i}" for i in range(n_cells * len(names))])
        provenance = self._provenance(
            seed=options.seed,
            guidance_scale=options.guidance_scale,
            n_steps=steps_of(options.sampler, options.n_steps),
            sampler=options.sampler,
        )
        return cells.finish(obs, pd.DataFrame(index=screen.var_names), {"dbdiffusion": provenance})

    @property
    def _perturbation_key(self) -> str:
        return self.registry_["setup_args"]["perturbation_key"]

    def _provenance(self, **options: float | str) -> dict[str, float | str]:
        from importlib.metadata import version

        return {**options, "unseen_strategy": self.strategy, "version": version("dbdiffusion")}

    def _fixed(self, covariates: dict[str, Any] | None) -> tuple[tuple[str, int, float], ...]:
        fields = self.registry_["field_registries"]
        categorical = fields.get(REGISTRY_KEYS.CAT_COVS_KEY, {}).get("state_registry", {}).get("mappings", {})
        continuous = list(fields.get(REGISTRY_KEYS.CONT_COVS_KEY, {}).get("state_registry", {}).get("columns", ()))
        fixed = []
        if covariates is not None and not isinstance(covariates, Mapping):
            msg = f"`covariates` must be a dictionary, registered covariate to category or number, got {covariates!r}."
            raise ValueError(msg)
        for name, value in (covariates or {}).items():
            if name in categorical:
                categories = [str(category) for category in categorical[name]]
                code = categories.index(known_word(f"covariates[{name!r}]", str(value), categories))
                fixed.append((REGISTRY_KEYS.CAT_COVS_KEY, list(categorical).index(name), float(code)))
                continue
            name = known_word("covariates", str(name), [*categorical, *continuous])
            if not np.isfinite(_as_number(value)):
                msg = f"`covariates[{name!r}]` must be a finite number, got {value!r}."
                raise ValueError(msg)
            fixed.append((REGISTRY_KEYS.CONT_COVS_KEY, continuous.index(name), float(value)))
        return tuple(fixed)

    def _batch_code(self, batch: str | None) -> int | None:
        if batch is None:
            return None
        state = self.registry_["field_registries"][REGISTRY_KEYS.BATCH_KEY]["state_registry"]
        categories = [str(category) for category in state["categorical_mapping"]]
        return categories.index(known_word("batch", str(batch), categories))


def _repeated(words: list[str], n: int) -> pd.Categorical:
    """Each word n times, as categories in the order of the alphabet."""
    categories = sorted(set(words))
    return pd.Categorical.from_codes(np.repeat([categories.index(word) for word in words], n), categories)


def _as_number(value: Any) -> float:
    return float(value) if isinstance(value, int | float | np.number) else float("nan")


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
        n_cells: int = Recipe.n_cells,
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
        self._check_options(options)
        return self._effects(targets, **options)  # type: ignore[arg-type]

    def _check_options(self, options: Mapping[str, object]) -> None:
        """Raise a TypeError that names what is meant, if one is no argument of :meth:`differential_expression_ppi`."""
        known = list(signature(self.differential_expression_ppi).parameters)
        unknown = [name for name in options if name not in known]
        if unknown:
            msg = f"There is no argument {unknown[0]!r}.{meant(unknown[0], known)} There are: {', '.join(known)}."
            raise TypeError(msg)

    @in_each_context
    def target_confidence(
        self,
        targets: str | Sequence[str] | None = None,
        confidence: float = 0.9,
        cross_fitting: str = "embedding",
        n_cells: int = Recipe.n_cells,
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
        table.attrs |= self._provenance(combination_sep=predictor.space.separator)
        return table

    def _predictor_for(self, recipe: Recipe) -> Predictor:
        """The predictor, its folds retrained first where the recipe asks for them."""
        if recipe.cross_fitting == "k_fold" and self.cross_fit_ is None:
            self.cross_fit()  # type: ignore[attr-defined]
        return self.predictor()

    def _target_names(self, targets: str | Sequence[str] | None, predictor: Predictor) -> list[str]:
        if targets is None:
            return self._names_placed(predictor)
        names = self._canonical(listed_names(targets))
        check_not_control(names, predictor.screen.control)
        return list(dict.fromkeys(names))

    def _names_placed(self, predictor: Predictor) -> list[str]:
        """All perturbations but those that another context measured and nothing places in this one, which are named."""
        space = predictor.space
        is_placed = {name: space.is_measured(name) or space.can_embed(name) for name in self.perturbation_names}
        rest = [name for name, placed in is_placed.items() if not placed]
        if rest:
            say(
                f"{len(rest)} perturbations have no answer here ({', '.join(rest[:3])}{', ...' * (len(rest) > 3)}): another "
                "context measured them, this one did not, and nothing places them.",
                UserWarning,
            )
        return [name for name, placed in is_placed.items() if placed]
