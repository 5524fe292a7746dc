"""Score held-out targets against their cells, the simple baselines and the promised error beside."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from dbdiffusion._keys import said_of
from dbdiffusion._words import ScreenWarning
from dbdiffusion.data import perturbations_in
from dbdiffusion.inference import Evidence, squared_errors
from dbdiffusion.metrics import coverage, mean_squared_error, pearson, precision_recall, two_sided_pit
from dbdiffusion.screen import NameRule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from anndata import AnnData

    from dbdiffusion.model import DBDiffusion
    from dbdiffusion.predict import Calibration


# A report in parts: one for every context of the model, or a single one under the key None.


Part = TypeVar("Part")


def views_of(model: DBDiffusion) -> dict[str | None, Any]:
    """The model as it is in each of its contexts; without contexts the model itself."""
    return {name: model.in_context(name) for name in model.contexts} or {None: model}


def title_of(target: str, context: str | None) -> str:
    """A target, and the context if there is one.

    Examples
    --------
    >>> title_of("MYC", None), title_of("MYC", "day 3")
    ('MYC', 'MYC (day 3)')
    """
    return target if context is None else f"{target} ({context})"


def rows_in(table: pd.DataFrame, column: str | None, context: str | None) -> np.ndarray:
    """Which rows (N,) are of a context; all of them where there are no contexts.

    Examples
    --------
    >>> rows_in(pd.DataFrame({"day": [2, 3]}), "day", "3").tolist()
    [False, True]
    """
    if column is None or context is None:
        return np.ones(len(table), dtype=bool)
    return (table[column].astype(str) == context).to_numpy()


def stacked(tables: Mapping[str | None, pd.DataFrame]) -> pd.DataFrame:
    """Tables of contexts below each other, the context as first column.

    Examples
    --------
    >>> stacked({"early": pd.DataFrame({"x": [1]}), "late": pd.DataFrame({"x": [2]})})["context"].tolist()
    ['early', 'late']
    """
    if None in tables:
        return tables[None]
    return pd.concat([labelled(table, name)[["context", *table.columns]] for name, table in tables.items()])


def labelled(table: pd.DataFrame, context: str | None) -> pd.DataFrame:
    """The table with the context as a column, if there is one."""
    return table if context is None else table.assign(context=context)


def of_contexts(parts: Mapping[str | None, Part]) -> Any:
    """What is said of each context; without contexts, the one thing that is said."""
    return parts.get(None, parts)


LEVEL = 0.05
LISTED = 0.1  # 5 % cannot be promised with fewer than 39 references
MIN_TO_SPLIT = 4  # cells, so that both halves have a variance
SCORES = (
    "n_cells", "pearson_effect", "mse", "mse_mean_baseline", "mse_zero_baseline", "mse_ridge_baseline", "split_half_ceiling",
    "coverage_95", "width_95", "lam", "told_apart", "n_listed", "n_de", "de_precision",
    "de_recall",
)  # fmt: skip


@dataclass(frozen=True)
class HeldOut:
    """Observed effects of held-out targets, T x G, and what the truth is where it is known.

    Parameters
    ----------
    observed
        Table of :meth:`DBDiffusion.observed_effects`.
    n_cells
        Of each target.
    ceiling
        Correlation that a perfect prediction could reach, see :func:`split_half_ceiling`.
    """

    observed: pd.DataFrame
    n_cells: dict[str, int]
    ceiling: dict[str, float]


def observe(model: DBDiffusion, cells: AnnData, setup: dict[str, Any], seed: int) -> HeldOut:
    """Observed effects of the perturbations in ``cells``, which holds control cells too."""
    observed = _observed(model, cells, setup)
    sizes = _names_in(cells, setup).value_counts()
    names = list(observed["target"].unique())
    return HeldOut(observed, {name: int(sizes[name]) for name in names}, split_half_ceiling(model, cells, setup, seed))


def split_half_ceiling(model: DBDiffusion, cells: AnnData, setup: dict[str, Any], seed: int) -> dict[str, float]:
    """Square root of the reliability of every observed effect.

    The cells of each perturbation, and of control, are halved at random; r is the correlation of the two halves' effects,
    2r / (1 + r) the reliability of the whole (Spearman-Brown). NaN with fewer than four cells, 0 if r is negative.
    """
    rng = np.random.default_rng(seed)
    column = _names_in(cells, setup).to_numpy()
    half = np.zeros(cells.n_obs, dtype=int)
    is_split = np.zeros(cells.n_obs, dtype=bool)
    for name in np.unique(column):
        rows = rng.permutation(np.flatnonzero(column == name))
        half[rows[: len(rows) // 2]] = 1
        is_split[rows] = len(rows) >= MIN_TO_SPLIT
    names = [name for name in np.unique(column) if name != setup["control"]]
    split = set(column[is_split])
    if setup["control"] not in split or len(split) < 2:
        return dict.fromkeys(names, np.nan)
    effects = []
    for side in (0, 1):
        part = cells[is_split & (half == side)].copy()
        effects.append(_observed(model, part, setup).pivot(index="target", columns="variable", values="effect"))
    first, second = (effect.reindex(index=names) for effect in effects)
    r = pearson(first.to_numpy(), second[first.columns].to_numpy())
    return {
        name: float(np.sqrt(max(2 * x / (1 + x), 0))) if np.isfinite(x) else np.nan for name, x in zip(names, r, strict=True)
    }


def _observed(model: DBDiffusion, cells: AnnData, setup: dict[str, Any]) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScreenWarning)  # all of it was said of the whole screen
        model.setup_anndata(cells, **setup)
    return model.observed_effects(cells)


def _names_in(cells: AnnData, setup: dict[str, Any]) -> pd.Series:
    rule = NameRule(setup["control"], setup.get("combination_sep", "+"), cells.var_names)
    return perturbations_in(cells.obs, setup["perturbation_key"], rule)


def score_targets(model: DBDiffusion, effects: pd.DataFrame, held_out: HeldOut | None) -> list[dict[str, Any]]:
    """One dictionary a target; fields that need held-out cells are None where there are none.

    Genes that the target itself perturbs are left out.

    Examples
    --------
    >>> rows = score_targets(model, model.predict_effects(unseen, n_cells=64), None)
    >>> [row["target"] for row in rows] == unseen, rows[0]["mse"] is None
    (True, True)
    """
    return [_score(model, str(name), table, held_out) for name, table in effects.groupby("target", sort=False)]


def _score(model: DBDiffusion, name: str, table: pd.DataFrame, held_out: HeldOut | None) -> dict[str, Any]:
    width = float((table["ci_high"] - table["ci_low"]).mean())
    called = (table["adj_p_value"] < LEVEL).to_numpy()
    scores: dict[str, Any] = {
        "target": name,
        **dict.fromkeys(SCORES),
        "width_95": width,
        "lam": float(table["lam"].iloc[0]),
        "told_apart": table.attrs.get("told_apart", {}).get(name),
        "n_listed": int((table["adj_p_value"] <= LISTED).sum()),
        "n_de": int(called.sum()),
    }
    if held_out is None or name not in held_out.n_cells:
        return _plain(scores)
    truth = held_out.observed[held_out.observed["target"] == name].set_index("variable").loc[table["variable"]]
    others = ~table["variable"].isin(model.parts_of(name)).to_numpy()
    observed = truth["effect"].to_numpy()[others]
    baselines = model.baseline_effects(name)

    def mse(prediction: np.ndarray) -> float:
        return float(mean_squared_error(prediction[None], observed[None])[0])

    predicted = table["effect"].to_numpy()[others]
    pit = two_sided_pit(
        predicted - observed,
        table["se"].to_numpy()[others],
        table["df"].to_numpy()[others],
        truth["se"].to_numpy()[others] ** 2,
    )
    precision, recall = precision_recall(called[others], (truth["adj_p_value"] < LEVEL).to_numpy()[others])
    scores |= {
        "n_cells": held_out.n_cells[name],
        "pearson_effect": float(pearson(predicted[None], observed[None])[0]),
        "mse": mse(predicted),
        **{f"mse_{kind}_baseline": mse(effect[others]) for kind, effect in baselines.items()},
        "split_half_ceiling": held_out.ceiling[name],
        "coverage_95": coverage(pit[None], (0.95,))[0.95][0],
        "de_precision": precision,
        "de_recall": recall,
    }
    return _plain(scores)


def _plain(scores: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in scores.items()}


def score_frame(scores: list[dict[str, Any]]) -> pd.DataFrame:
    """Scores as a frame to print: baselines beside the prediction, all relative to the mean baseline where known.

    Examples
    --------
    >>> float(score_frame([{"target": "A", "mse": 1.0, "mse_mean_baseline": 2.0}]).loc["A", "mse / mean"])
    0.5
    """
    frame = pd.DataFrame(scores).set_index("target")
    for kind in ("mean", "zero", "ridge"):
        column = f"mse_{kind}_baseline"
        if column in frame and "mse" in frame:
            frame[f"mse / {kind}"] = frame["mse"].astype(float) / frame[column].astype(float)
    return frame


# The evidence gap: the error that left-out references promised, beside the one of the perturbations that were hidden.


logger = logging.getLogger("dbdiffusion")

SUMMED = "(Errors are summed over perturbations here, and known noise is taken out.)"
NEGLIGIBLE = 0.1  # of the ratio; a smaller gap changes nobody's mind
COLUMNS = ("n", "left_out", "left_out_se", "realised", "realised_se", "differs")


def evidence_gap(view: Any, effects: pd.DataFrame, held_out: HeldOut | None, calibration: Calibration | None) -> pd.DataFrame:
    """Squared error over that of the mean of the measured perturbations: as the tuning believed it, and as it came out.

    Parameters
    ----------
    view
        Model, or a model as it is in a context.
    effects
        Table of the targets.
    held_out
        What was observed of hidden ones; None if nothing was hidden.
    calibration
        Of the references; None if there are too few.

    Returns
    -------
    DataFrame
        One row per kind (``single``, ``combination``): ``n`` hidden perturbations, ``left_out`` and ``realised`` ratios of
        sums, known noise taken out, with standard errors over perturbations, and whether they differ by more than two of these.
    """
    rows = {}
    if held_out is not None and calibration is not None:
        for kind, believed in calibration.evidence.iterrows():
            names = [n for n in held_out.n_cells if (len(view.parts_of(n)) > 1) == (kind == "combination")]
            names = [n for n in names if n in set(effects["target"])]
            if names:
                rows[kind] = _row(_realised(view, effects, held_out, names, str(kind)).ratio("mean"), believed, len(names))
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(COLUMNS)).rename_axis("kind")


def of_context(effects: pd.DataFrame, name: str | None) -> pd.DataFrame:
    """The rows of a context, and what the table says of it; all of them without contexts.

    Examples
    --------
    >>> effects = pd.DataFrame({"target": ["A", "A"], "context": ["early", "late"]})
    >>> effects.attrs = {"context": ["early", "late"], "told_apart": {"early": {"A": True}, "late": {"A": False}}}
    >>> of_context(effects, "late").attrs["told_apart"]
    {'A': False}
    """
    table = effects[rows_in(effects, "context", name)]
    if name is not None:
        table.attrs = said_of(effects.attrs, name)
    return table


def gaps_of(
    views: Mapping[str | None, Any],
    effects: pd.DataFrame,
    held_out: Mapping[str | None, HeldOut | None],
    calibrations: Mapping[str | None, Calibration | None],
) -> dict[str | None, pd.DataFrame]:
    """The gap in every context; without contexts the one under the key None."""
    gaps = {}
    for name, view in views.items():
        gaps[name] = evidence_gap(view, of_context(effects, name), held_out[name], calibrations[name])
    return gaps


def _row(realised: tuple[float, float], believed: pd.Series, n: int) -> dict[str, Any]:
    left_out, se = float(believed["relative_to_mean"]), float(believed["relative_to_mean_se"])
    gap = abs(realised[0] - left_out)
    differs = bool(gap > max(2 * np.hypot(se, realised[1]), NEGLIGIBLE))
    return dict(zip(COLUMNS, (n, left_out, se, *realised, differs), strict=True))


def _realised(view: Any, effects: pd.DataFrame, held_out: HeldOut, names: list[str], kind: str) -> Evidence:
    genes = effects["variable"].unique()
    table = effects.pivot(index="target", columns="variable", values="effect").loc[names, genes]
    observed = held_out.observed.pivot(index="target", columns="variable", values="effect").loc[names, genes].to_numpy()
    variance = held_out.observed.pivot(index="target", columns="variable", values="se").loc[names, genes].to_numpy() ** 2
    predicted = table.to_numpy()
    mean = np.stack([view.baseline_effects(name)["mean"] for name in names])
    own = np.stack([np.isin(genes, view.parts_of(name)) for name in names])
    control = view.control_variance()
    weight = effects.attrs.get("rectifier_mean", {}).get(kind, {}).get("control_weight", 0.0)
    observed, predicted, mean, variance = (np.where(own, 0, x) for x in (observed, predicted, mean, variance))
    errors = [
        squared_errors(observed, values, np.maximum(variance - control, 0), control, a)
        for values, a in ((predicted, weight), (mean, 1.0), (np.zeros_like(mean), 0.0))
    ]
    return Evidence(*errors)


def gap_lines(gaps: Mapping[str | None, pd.DataFrame]) -> list[str]:
    """Sentences for the report.

    Examples
    --------
    >>> gap = pd.DataFrame([[5, 0.9, 0.02, 1.3, 0.05, True]], index=["single"], columns=list(COLUMNS))
    >>> "promised" in gap_lines({None: gap})[0]
    True
    """
    lines = []
    for context, kind, row in _rows(gaps):
        numbers = _numbers(context, kind, row)
        doubt = f"**The evidence of this screen does not hold**: {numbers}. Do not rely on its intervals."
        lines.append(doubt if row["differs"] else f"{numbers[0].upper()}{numbers[1:]}. {SUMMED}")
    return lines


def warn_of(gaps: Mapping[str | None, pd.DataFrame]) -> None:
    """Log a warning for every gap."""
    for context, kind, row in _rows(gaps):
        if row["differs"]:
            logger.warning("The evidence of this screen does not hold: %s.", _numbers(context, kind, row))


def _rows(gaps: Mapping[str | None, pd.DataFrame]) -> Iterator[tuple[str | None, str, pd.Series]]:
    for context, table in gaps.items():
        for kind, row in table.iterrows():
            yield context, str(kind), row


def _numbers(context: str | None, kind: str, row: pd.Series) -> str:
    where = "" if context is None else f" in {context}"
    errors = {key: row[f"{key}_se"] for key in ("left_out", "realised")}
    promised, came_out = (f"{row[key]:.2f}" + (f" (se {se:.2f})" if np.isfinite(se) else "") for key, se in errors.items())
    return (
        f"left-out {kind} references promised {promised} times the mean's squared error{where}; the {row['n']} hidden "
        f"ones came out at {came_out}"
    )
