"""Effects of perturbations as tables: observed contrasts of measured ones, rectified predictions of unseen ones."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion._keys import EFFECT_COLUMNS
from dbdiffusion.inference import (
    MIN_REFERENCES,
    Estimate,
    check_confidence,
    effects_table,
    fit_rectifier,
    paper_estimate,
    welch_contrast,
)
from dbdiffusion.model._generate import GenerationOptions
from dbdiffusion.model._references import (
    CROSS_FITTING,
    GENERATED,
    ReferencePool,
    predictions,
    reference_pool,
    references_of,
)
from dbdiffusion.model._screen import ScreenReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData

    from dbdiffusion.inference import Rectifier

METHODS = ("cross_fit", "paper")


class FewReferencesWarning(UserWarning):
    """Fewer than three reference perturbations: a point estimate can be had, an interval cannot.

    Examples
    --------
    >>> issubclass(FewReferencesWarning, UserWarning)
    True
    """


@dataclass(frozen=True)
class _Answer:
    """Estimates of some targets and the columns that explain them."""

    estimate: Estimate
    lam: np.ndarray
    tau: np.ndarray
    n_reference: np.ndarray


class InferenceMixin:
    """``differential_expression_ppi`` and ``predict_effects``."""

    def differential_expression_ppi(
        self,
        targets: str | Sequence[str] | None = None,
        method: str = "cross_fit",
        confidence: float = 0.95,
        interval: str = "prediction",
        cross_fitting: str = "k_fold",
        fdr: str = "target",
        lfc_threshold: float = 0.0,
        n_cells: int = 512,
        guidance_scale: float = 1.0,
        n_steps: int = 25,
        sampler: str = "dpm++",
        batch: str | None = None,
        seed: int = 0,
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
            ``"cross_fit"``, or ``"paper"`` (Shang, Wei & Roeder 2025: in-sample residuals of the located cluster, weight 1; it
            covers an unseen perturbation far less often than it says and is here for comparison).
        confidence
            Of the intervals.
        interval
            ``"prediction"``: for a new perturbation. ``"mean"``: for the mean of the references, which is narrower and says
            nothing about one perturbation.
        cross_fitting
            ``"k_fold"``, ``"embedding"`` or ``"in_sample"``, see :func:`~dbdiffusion.model._references.reference_pool`.
        fdr
            Benjamini-Hochberg inside each ``"target"``, or over ``"all"``.
        lfc_threshold
            Smallest effect of interest, as log2 fold change; p-values test that the effect is not larger.
        n_cells, guidance_scale, n_steps, sampler, batch, seed
            How means are generated, see :meth:`generate`.

        Returns
        -------
        DataFrame
            One row per target and gene, sorted by p-value inside a target, columns in this order: ``target, variable, effect``
            (mean log1p CP10K minus control's, natural log)``, log_fc`` (effect / ln 2)``, se, df, ci_low, ci_high, statistic,
            p_value, adj_p_value, mean_target, mean_control, lam`` (weight of the generated mean)``, tau`` (standard deviation
            between perturbations around the prediction)``, n_reference, status`` (``measured`` or ``unseen``)``, contrast``.
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
        """
        table = self._effects(
            targets, method, confidence, interval, cross_fitting, fdr, lfc_threshold, n_cells,
            GenerationOptions(guidance_scale, sampler, n_steps, self._batch_code(batch), seed),
        )  # fmt: skip
        order = {name: i for i, name in enumerate(table["target"].unique())}
        rank = table["target"].map(order)
        return (
            table.assign(_rank=rank).sort_values(["_rank", "p_value"], kind="stable", ignore_index=True).drop(columns="_rank")
        )

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
        """
        table = self.differential_expression_ppi(targets, **options)  # type: ignore[arg-type]
        genes = {name: i for i, name in enumerate(self._screen().var_names)}
        targets = list(table["target"].unique())
        key = table["target"].map({name: i for i, name in enumerate(targets)}) * len(genes) + table["variable"].map(genes)
        return table.iloc[np.argsort(key.to_numpy(), kind="stable")].reset_index(drop=True)

    def observed_effects(self, adata: AnnData | None = None, confidence: float = 0.95) -> pd.DataFrame:
        """Observed contrasts of every perturbation with cells, by Welch's test inside batches.

        Parameters
        ----------
        adata
            Another AnnData, registered by :meth:`setup_anndata`, with control cells of its own; None means the model's.
        confidence
            Of the intervals.

        Returns
        -------
        DataFrame
            The table of :meth:`differential_expression_ppi`, genes in the order of ``var_names``.
        """
        manager = self.adata_manager if adata is None else self._get_most_recent_anndata_manager(adata, required=True)
        reader = ScreenReader(manager)
        names, observed = reader.effects()
        estimate = welch_contrast(
            observed.effect, observed.variance, observed.control_variance, observed.df, observed.control_df
        )
        columns = {
            "lam": np.array(np.nan), "tau": np.array(np.nan), "n_reference": np.array(0), "status": np.array("measured"),
            "contrast": np.array([f"{name} vs {reader.control}" for name in names], dtype=object)[:, None],
        }  # fmt: skip
        genes = np.asarray(manager.adata.var_names, dtype=str)
        return effects_table(list(names), genes, estimate, observed.mean_control, confidence, columns)[list(EFFECT_COLUMNS)]

    def _effects(
        self, targets: str | Sequence[str] | None, method: str, confidence: float, interval: str, cross_fitting: str,
        fdr: str, lfc_threshold: float, n_cells: int, options: GenerationOptions,
    ) -> pd.DataFrame:  # fmt: skip
        _check_words(method, cross_fitting, n_cells)
        check_confidence(confidence)
        screen, space = self._screen(), self._space()
        names = self._target_names(targets)
        unseen = [name for name in names if not space.is_measured(name)]
        answers: dict[str, _Answer] = {name: self._measured(name) for name in names if space.is_measured(name)}
        space.embed(unseen)  # raises for what nothing places, before any costly step
        if unseen:
            rule = self._by_paper if method == "paper" else self._by_rectifier
            answers |= rule(unseen, interval, cross_fitting, n_cells, options)
        table = effects_table(
            names,
            screen.var_names,
            Estimate(*(np.stack([getattr(answers[n].estimate, a) for n in names]) for a in ("effect", "se", "df"))),
            np.stack([self._mean_control(name) for name in names]),
            confidence,
            {
                "lam": np.stack([answers[name].lam for name in names])[:, None],
                "tau": np.stack([np.broadcast_to(answers[name].tau, screen.var_names.shape) for name in names]),
                "n_reference": np.stack([answers[name].n_reference for name in names])[:, None],
                "status": np.array(["measured" if space.is_measured(name) else "unseen" for name in names])[:, None],
                "contrast": np.array([f"{name} vs {screen.control}" for name in names], dtype=object)[:, None],
            },
            fdr,
            lfc_threshold * np.log(2),
        )[list(EFFECT_COLUMNS)]
        table.attrs = {
            "method": method, "confidence": confidence, "interval": interval, "cross_fitting": cross_fitting, "fdr": fdr,
            "lfc_threshold": lfc_threshold, "scale": "mean log1p CP10K, natural log", "n_cells": n_cells,
            **self._provenance(**{k: v for k, v in options.__dict__.items() if v is not None}),
        }  # fmt: skip
        if unseen and method == "cross_fit":
            table.attrs["weights"] = {kind: {**r.weights, "rho": r.rho} for kind, r in self._last_rectifiers.items()}
        return table

    def _target_names(self, targets: str | Sequence[str] | None) -> list[str]:
        names = self.perturbation_names if targets is None else [targets] if isinstance(targets, str) else list(targets)
        control = self._screen().control
        if control in names:
            msg = f"Control {control!r} is what targets are compared with; leave it out of `targets`."
            raise ValueError(msg)
        if not names:
            msg = "`targets` is empty; name at least one perturbation."
            raise ValueError(msg)
        return list(dict.fromkeys(names))

    def _measured(self, name: str) -> _Answer:
        screen = self._screen()
        observed = screen.observed.subset(np.array([self._space().row(name)]))
        estimate = welch_contrast(
            observed.effect, observed.variance, observed.control_variance, observed.df, observed.control_df
        )
        nothing = np.array(np.nan)
        return _Answer(Estimate(estimate.effect[0], estimate.se[0], estimate.df[0]), nothing, nothing, np.array(0))

    def _mean_control(self, name: str) -> np.ndarray:
        screen, space = self._screen(), self._space()
        rows = [space.row(name)] if space.is_measured(name) else slice(None)
        return screen.observed.mean_control[rows].mean(axis=0)

    def _pool(self, cross_fitting: str, n_cells: int, options: GenerationOptions) -> ReferencePool:
        if cross_fitting == "k_fold" and self.cross_fit_ is None:
            self.cross_fit()
        key = (cross_fitting, n_cells, options, self.strategy)
        if key not in self._pools:
            self._pools = {key: reference_pool(self, cross_fitting, options, n_cells)}
        return self._pools[key]

    def _by_rectifier(
        self, unseen: list[str], interval: str, cross_fitting: str, n_cells: int, options: GenerationOptions
    ) -> dict[str, _Answer]:
        space = self._space()
        predicted, noise = predictions(self, space, self.module.diffusion, unseen, options, n_cells)
        answers: dict[str, _Answer] = {}
        self._last_rectifiers: dict[str, Rectifier] = {}
        for combination in (False, True):
            chosen = [i for i, name in enumerate(unseen) if (len(space.parts(name)) > 1) == combination]
            if not chosen:
                continue
            rectifier = self._rectifier(cross_fitting, n_cells, options, combination=combination)
            self._last_rectifiers["combination" if combination else "single"] = rectifier
            lam = rectifier.weights[GENERATED]
            of_chosen = {name: values[chosen] for name, values in predicted.items()}
            estimate = rectifier.estimate(of_chosen, lam**2 * noise[chosen], interval)
            for row, i in enumerate(chosen):
                one = Estimate(estimate.effect[row], estimate.se[row], estimate.df[row])
                answers[unseen[i]] = _Answer(one, np.array(lam), rectifier.tau, np.array(rectifier.n_reference))
        return answers

    def _rectifier(self, cross_fitting: str, n_cells: int, options: GenerationOptions, *, combination: bool) -> Rectifier:
        pool = self._pool(cross_fitting, n_cells, options)
        members = pool.select(combination=combination)
        if len(members) < MIN_REFERENCES:
            warnings.warn(
                f"Only {len(members)} reference perturbations could be predicted without their cells; at least "
                f"{MIN_REFERENCES} are needed for an interval, so effects of unseen perturbations come without errors and "
                "p-values. Measure more perturbations whose genes are in `var_names`, or give vectors.",
                FewReferencesWarning,
                stacklevel=5,
            )
        return fit_rectifier(references_of(self, pool, members))

    def _by_paper(
        self, unseen: list[str], _interval: str, _cross_fitting: str, n_cells: int, options: GenerationOptions
    ) -> dict[str, _Answer]:
        screen = self._screen()
        space = self._space().with_ranking(("cluster",))
        diffusion = self.module.diffusion
        generated = predictions(self, space, diffusion, unseen, options, n_cells)[0][GENERATED]
        in_sample = self._pool("in_sample", n_cells, options)
        answers = {}
        for row, name in enumerate(unseen):
            members = space.located_cluster(name)
            observed = screen.observed.subset(members)
            references = in_sample.predicted[GENERATED][np.searchsorted(in_sample.rows, members)]
            estimate = paper_estimate(generated[row], observed.effect, references, observed.variance)
            tau = observed.effect.std(axis=0, ddof=1) if len(members) > 1 else np.array(np.nan)
            answers[name] = _Answer(estimate, np.array(1.0), tau, np.array(len(members)))
        return answers


def _check_words(method: str, cross_fitting: str, n_cells: int) -> None:
    for name, value, words in (("method", method, METHODS), ("cross_fitting", cross_fitting, CROSS_FITTING)):
        if value not in words:
            msg = f"`{name}` must be one of {list(words)}, got {value!r}."
            raise ValueError(msg)
    if n_cells < 2:
        msg = f"`n_cells` must be at least 2 to average over, got {n_cells!r}."
        raise ValueError(msg)
