"""Rectified effects from tables alone: any predictor, no network."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion._words import real_number
from dbdiffusion.inference import (
    MIN_REFERENCES,
    References,
    check_left_out,
    discoveries_of,
    effects_table,
    fit_rectifier,
    signs_of,
)
from dbdiffusion.predict._pool import Fitted
from dbdiffusion.screen import NameRule, effect_table, listed_names, meant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dbdiffusion.inference import Rectifier
    from dbdiffusion.predict._predictor import Predictor
    from dbdiffusion.screen import ControlHalves


# Predictions of other models, brought as tables: stacked, rectified and calibrated beside ours.


@dataclass(frozen=True, eq=False)
class OwnTable:
    """Predicted effects by name, the parts of a combination in any order.

    Parameters
    ----------
    effects
        Names x genes, genes in the order of the screen.
    rule
        How names are read.

    Examples
    --------
    >>> import pandas as pd
    >>> table = OwnTable(pd.DataFrame([[1.0, 2.0]], index=["A+B"], columns=["g", "h"]), NameRule())
    >>> table.holds("B+A"), table.of(["B+A"]).tolist()
    (True, [[1.0, 2.0]])
    """

    effects: pd.DataFrame
    rule: NameRule

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], int]:
        return {self.rule.key(name): row for row, name in enumerate(self.effects.index)}

    def holds(self, name: str) -> bool:
        """Whether a perturbation is predicted."""
        return self.rule.key(name) in self._rows

    def of(self, names: Sequence[str]) -> np.ndarray:
        """Effects (n, G)."""
        return self.effects.to_numpy()[[self._rows[self.rule.key(name)] for name in names]]


def own_table(predictor: Predictor, name: str, effects: Any, rule: NameRule) -> tuple[OwnTable, float]:
    """A table of another model's predictions, checked, and its squared error on the references over their noise.

    Raises
    ------
    TypeError, ValueError, KeyError
        If it is no table of all genes, lacks a reference, or knows what it predicts.

    Examples
    --------
    >>> import pandas as pd
    >>> from dbdiffusion.screen import NameRule
    >>> predictor = model.predictor()
    >>> noise = np.random.default_rng(0).normal(size=(len(predictor.screen.names), adata.n_vars))
    >>> effects = pd.DataFrame(noise, index=predictor.screen.names, columns=adata.var_names)
    >>> table, error = own_table(predictor, "noise", effects, NameRule())
    >>> bool(error > 1)
    True
    """
    screen = predictor.screen
    table = OwnTable(effect_table(effects, f"The predictions of {name!r}", rule, list(map(str, screen.var_names))), rule)
    rows = np.flatnonzero(screen.observed.has_variance)
    absent = [screen.names[row] for row in rows if not table.holds(screen.names[row])]
    if absent:
        msg = (
            f"The predictions of {name!r} lack {len(absent)} of {len(rows)} measured perturbations, {absent[:5]}. Every one is "
            "a reference and must be predicted as if it had not been measured: leave a fold of perturbations out, train on the "
            "others, predict the fold."
        )
        raise KeyError(msg)
    names = [screen.names[row] for row in rows]
    own = np.zeros((len(rows), len(screen.var_names)), dtype=bool)
    for hit, one in zip(own, names, strict=True):
        hit[predictor.space.own_genes(one)] = True
    seen, predicted = (np.where(own, 0, values) for values in (screen.observed.effect[rows], table.of(names)))
    return table, check_left_out(predicted, seen, np.where(own, 0, screen.observed.variance[rows]), name)


COLUMNS = (
    "target", "variable", "effect", "log_fc", "se", "df", "ci_low", "ci_high", "statistic", "p_value", "adj_p_value", "lam",
    "tau", "n_reference", "status", "contrast", "lfsr", "error_rate",
)  # fmt: skip


def rectify(
    observed: pd.DataFrame,
    predictions: pd.DataFrame | Mapping[str, pd.DataFrame],
    targets: str | Sequence[str] | None = None,
    se: pd.DataFrame | None = None,
    control_se: pd.Series | None = None,
    confidence: float = 0.95,
    lam: float | None = None,
    separator: str = "+",
    halves: ControlHalves | None = None,
    **known: Any,
) -> pd.DataFrame:
    """Effects with intervals and p-values of perturbations nobody measured, from a table of any model's predictions.

    The measured perturbations that were predicted *without their cells* are the references: they tell how far predictions lie
    from what is observed, and the target's prediction is corrected and given an interval by that. Several predictors are
    stacked by their left-out errors. A predictor that says nothing gets a weight near zero.

    Parameters
    ----------
    observed
        Effects of measured perturbations against control: DataFrame (index = perturbations, columns = genes), mean log1p CP10K.
    predictions
        Predicted effects, one table or several by name: a row for every target, and for every measured perturbation that is
        to be a reference, predicted as if it had not been measured. Made by folds: leave a fifth of the perturbations out,
        train on the others, predict the fifth; targets are predicted by the model of all. All genes of ``observed`` are needed.
    targets
        Names; None means all rows of the predictions that were not measured.
    se
        Standard errors of the perturbations' own means, like ``observed``; None takes observed effects for exact, so that
        intervals are those of an observation.
    control_se
        Standard error of the control mean by gene; None means that it has none.
    confidence
        Of the intervals.
    lam
        Weight of the first predictor if not to be tuned; the others are then left out.
    separator
        Between the parts of a combination, ``"A+B"``; own genes of a perturbation teach nothing about others and do not count.
    halves
        Of the control cells, of the rows of ``observed``. Where the control mean has an error, there are no lists of genes
        without them: ``adj_p_value`` is NaN.
    **known
        Further fields of :class:`~dbdiffusion.inference.References`, of the rows of ``observed`` in their order; not
        ``coherence``, which tables do not tell of targets.

    Returns
    -------
    DataFrame
        One row a target and gene, columns as in :meth:`DBDiffusion.predict_effects` as far as tables tell. ``lam`` is the
        weight of the first predictor. ``attrs["weights"]`` has all, by kind of target, and ``attrs["error_over_noise"]`` the
        squared error of each predictor on the references over the noise of the observations (1: as good as the truth).

    Raises
    ------
    KeyError
        If a gene is missing, or nothing predicts a target.
    ValueError
        If a target was measured, no measured perturbation is predicted, or predictions were made with the references' cells:
        an error below the noise of the observations tells.
    TypeError
        If a table is none.

    Warns
    -----
    UserWarning
        With fewer than three references: effects without intervals.

    Examples
    --------
    >>> import dbdiffusion
    >>> rng = np.random.default_rng(0)
    >>> names, genes = [f"KO{i}" for i in range(30)], [f"g{i}" for i in range(40)]
    >>> truth = pd.DataFrame(rng.normal(size=(30, 40)), names, genes)
    >>> measured = truth[:25] + 0.1 * rng.normal(size=(25, 40))
    >>> table = dbdiffusion.rectify(measured, truth + 0.3 * rng.normal(size=(30, 40)), se=0 * measured + 0.1)
    >>> table["target"].unique().tolist()
    ['KO25', 'KO26', 'KO27', 'KO28', 'KO29']
    >>> inside = (table["ci_low"] < truth[25:].to_numpy().ravel()) & (truth[25:].to_numpy().ravel() < table["ci_high"])
    >>> bool(0.9 < inside.mean() <= 1)
    True
    """
    confidence = real_number("confidence", confidence, 0, 1, strictly=True)
    lam = None if lam is None else real_number("lam", lam, 0)
    if known.get("coherence") is not None:
        msg = "`coherence` must be known of targets too, and tables do not tell it: leave it out."
        raise ValueError(msg)
    tables = _Tables.read(observed, predictions, se, control_se, NameRule(separator=separator))
    names = tables.targets(targets)
    error = tables.check_left_out()
    answers, weights, rho = [], {}, {}
    for kind, members in tables.by_kind(names).items():
        used = tables.references_for(kind)
        references = tables.references(used, known)
        references = references if lam is not None else references.corrected()
        rectifier = fit_rectifier(references, lam)
        weights[kind], rho[kind] = rectifier.weights, rectifier.rho
        if len(used) < MIN_REFERENCES:
            msg = f"Only {len(used)} measured perturbations are predicted: no intervals, which need {MIN_REFERENCES}."
            warnings.warn(msg, UserWarning, stacklevel=2)
        answers.append(tables.answer(members, used, rectifier, references, halves, confidence))
    order = {name: i for i, name in enumerate(names)}
    table = pd.concat(answers).sort_values("target", key=lambda column: column.map(order), kind="stable", ignore_index=True)
    table.attrs = {"confidence": confidence, "weights": weights, "rho": rho, "error_over_noise": error}
    return table


@dataclass(frozen=True)
class _Tables:
    """What was handed in, aligned: P measured perturbations, G genes."""

    seen: pd.DataFrame
    predicted: dict[str, OwnTable]
    variance: np.ndarray
    control_variance: np.ndarray
    rule: NameRule

    @classmethod
    def read(cls, observed: Any, predictions: Any, se: Any, control_se: Any, rule: NameRule) -> _Tables:
        """Check all tables, and that they have references in common."""
        columns = getattr(observed, "var_names", getattr(observed, "columns", ()))
        rule = replace(rule, whole=frozenset(map(str, columns)))  # a gene may hold the separator
        seen = effect_table(observed, "`observed`", rule)
        genes = list(seen.columns)
        predicted = {
            name: OwnTable(effect_table(table, f"`predictions`[{name!r}]", rule, genes), rule)
            for name, table in _by_name(predictions).items()
        }
        tables = cls(seen, predicted, _like(se, seen, rule) ** 2, _of_genes(control_se, genes) ** 2, rule)
        if not tables.used:
            msg = (
                f"None of the {len(seen)} measured perturbations has a row in every table of `predictions`, so nothing tells "
                f"how far these lie from the truth: predict measured ones as if they were not, such as {list(seen.index[:3])}."
            )
            raise ValueError(msg)
        return tables

    @cached_property
    def used(self) -> list[int]:
        """Rows of the measured perturbations that every predictor predicts."""
        return [i for i, name in enumerate(self.seen.index) if self._is_predicted(name)]

    def targets(self, given: Any) -> list[str]:
        """Names that are to be predicted; those of all that were not measured if none are given."""
        measured = OwnTable(self.seen, self.rule)
        if given is None:
            first = next(iter(self.predicted.values())).effects.index
            names = [name for name in first if not measured.holds(name) and self._is_predicted(name)]
        else:
            names = list(dict.fromkeys(self.rule.clean(name) for name in listed_names(given)))
        if not names:
            msg = "`predictions` holds no perturbation that was not measured: add rows for the targets, or name `targets`."
            raise ValueError(msg)
        for name in names:
            if measured.holds(name):
                msg = f"{name!r} is measured: leave it out of `targets`, or its row out of `observed`."
                raise ValueError(msg)
            for predictor, table in self.predicted.items():
                if not table.holds(name):
                    near = meant(name, list(table.effects.index))
                    msg = f"{name!r} has no row in the predictions of {predictor!r}.{near} Every predictor must predict it."
                    raise KeyError(msg)
        return names

    def check_left_out(self) -> dict[str, float]:
        """Squared error of every predictor on the references over their noise; refused where it is too small to be true."""
        of_used = self.of_names([self.seen.index[i] for i in self.used])
        seen, variance = self.seen.to_numpy()[self.used], self.variance[self.used]
        return {name: check_left_out(values, seen, variance, name) for name, values in of_used.items()}

    def by_kind(self, names: list[str]) -> dict[str, list[str]]:
        """Names apart that are combinations, and those that are not."""
        kinds: dict[str, list[str]] = {}
        for name in names:
            kinds.setdefault("combination" if self._is_combination(name) else "single", []).append(name)
        return kinds

    def references_for(self, kind: str) -> list[int]:
        """Rows of the references of a kind, or of all where fewer than three are."""
        same = [i for i in self.used if self._is_combination(self.seen.index[i]) == (kind == "combination")]
        return same if len(same) >= MIN_REFERENCES else self.used

    def references(self, used: list[int], known: Mapping[str, Any]) -> References:
        """What inference needs of some measured perturbations."""
        names = [self.seen.index[i] for i in used]
        fields = {name: _chosen(value, used, len(self.seen)) for name, value in known.items()}
        own = tuple(self._own_genes(name) for name in names)
        effect = self.seen.to_numpy()[used]
        return References(effect, self.variance[used], self.control_variance, self.of_names(names), own, **fields)

    def of_names(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Predictor to effects (n, G)."""
        return {name: table.of(names) for name, table in self.predicted.items()}

    def answer(
        self,
        names: list[str],
        used: list[int],
        rectifier: Rectifier,
        references: References,
        halves: ControlHalves | None,
        confidence: float,
    ) -> pd.DataFrame:
        """The table of some targets of a kind."""
        estimate = rectifier.estimate(references.of_targets(self.of_names(names)))
        every = np.ones(self.seen.shape[1], dtype=bool)
        listable = np.ones(estimate.effect.shape, dtype=bool)
        for i, name in enumerate(names):
            listable[i, self._own_genes(name)] = False
        q_values = np.full(estimate.effect.shape, np.nan)
        if len(used) >= MIN_REFERENCES and (halves is not None or not self.control_variance.any()):
            of_used = None if halves is None else halves.subset(np.array(used))
            q_values = discoveries_of(rectifier, references, every, of_used).q_values(estimate.effect, listable)
        fitted = Fitted(rectifier, references, signs=signs_of(rectifier, references, every))
        lfsr = fitted.lfsr(estimate, listable, known=0.0, coherence=1.0)
        columns = {
            "lam": np.array(next(iter(rectifier.weights.values()))),
            "tau": rectifier.tau,
            "n_reference": np.array(float(rectifier.n_reference)),
            "status": np.array("unseen"),
            "contrast": np.array([f"{name} vs control" for name in names], dtype=object)[:, None],
        }
        unknown = np.full(estimate.effect.shape, np.nan)
        genes = self.seen.columns.to_numpy()
        table = effects_table(names, genes, estimate, unknown, confidence, columns, q_values=list(q_values), lfsr=list(lfsr))
        return table[list(COLUMNS)]

    def _is_predicted(self, name: str) -> bool:
        return all(table.holds(name) for table in self.predicted.values())

    def _is_combination(self, name: str) -> bool:
        return len(self.rule.parts(name)) > 1

    def _own_genes(self, name: str) -> np.ndarray:
        columns = self.seen.columns.get_indexer(list(self.rule.parts(name)))
        return columns[columns >= 0]


def _by_name(predictions: Any) -> dict[str, Any]:
    if not hasattr(predictions, "items") or hasattr(predictions, "columns") or hasattr(predictions, "obs_names"):
        return {"predicted": predictions}
    if not predictions:
        msg = "`predictions` holds no table: give one, or several by name."
        raise ValueError(msg)
    return {str(name): table for name, table in predictions.items()}


def _like(given: Any, seen: pd.DataFrame, rule: NameRule) -> np.ndarray:
    if given is None:
        return np.zeros(seen.shape)
    table = OwnTable(effect_table(given, "`se`", rule, list(seen.columns)), rule)
    absent = [name for name in seen.index if not table.holds(name)]
    if absent:
        msg = f"`se` lacks {len(absent)} of the rows of `observed`, {absent[:5]}."
        raise KeyError(msg)
    values = table.of(seen.index)
    if (values < 0).any():
        msg = f"`se` must not be negative, got {values.min()!r}."
        raise ValueError(msg)
    return values


def _of_genes(given: Any, genes: list[str]) -> np.ndarray:
    if given is None:
        return np.zeros(len(genes))
    if not isinstance(given, pd.Series):
        msg = f"`control_se` must be a Series by gene, got {type(given).__name__}."
        raise TypeError(msg)
    values = effect_table(given.to_frame("control").T, "`control_se`", None, genes).to_numpy()[0]
    if (values < 0).any():
        msg = f"`control_se` must not be negative, got {values.min()!r}."
        raise ValueError(msg)
    return values


def _chosen(value: Any, used: list[int], n: int) -> Any:
    """Of a field of references the rows that are used."""
    return value[used] if isinstance(value, np.ndarray) and value.ndim and len(value) == n else value
