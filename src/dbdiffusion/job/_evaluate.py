"""Score held-out targets against their cells, with the simple baselines beside."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion._words import ScreenWarning
from dbdiffusion.data import perturbations_in
from dbdiffusion.metrics import coverage, mean_squared_error, pearson, precision_recall, two_sided_pit
from dbdiffusion.screen import NameRule

if TYPE_CHECKING:
    from anndata import AnnData

    from dbdiffusion.model import DBDiffusion

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
