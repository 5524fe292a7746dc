"""Scores of a held-out perturbation's predicted effects, and their summary over perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from dbdiffusion.metrics import interval_score, two_sided_pit

if TYPE_CHECKING:
    from _screens import Screen

    from dbdiffusion import DBDiffusion

LEVELS = (0.5, 0.8, 0.95)
NEGLIGIBLE = 0.02  # an effect below it, natural log, is a change of less than 2 %


def score(screen: Screen, name: str, table: pd.DataFrame, baseline: dict, model: DBDiffusion) -> dict:
    others = ~table["variable"].isin(model.parts_of(name)).to_numpy()
    reference, noise = screen.reference.loc[name].to_numpy()[others], screen.noise.loc[name].to_numpy()[others]
    effect, se, df = (table[column].to_numpy()[others] for column in ("effect", "se", "df"))
    pit = two_sided_pit(effect - reference, se, df, noise)
    half = stats.t.ppf(0.975, df) * se
    with_noise = np.hypot(half, stats.norm.ppf(0.975) * np.sqrt(noise))  # as for coverage: the reference has it too
    judged = screen.judged.loc[name].to_numpy()[others]
    signal = max(float(np.mean((baseline["mean"][others] - reference) ** 2)) - float(noise.mean()), 1e-12)
    return {
        "ratio_to_mean": (float(np.mean((effect - reference) ** 2)) - float(noise.mean())) / signal,
        **{f"coverage_{level:g}": float(np.mean(pit[judged] <= level)) for level in LEVELS},
        "coverage_0.95_all": float(np.mean(pit <= 0.95)),
        "judged": float(judged.mean()),
        "width": float(2 * half.mean()),
        "interval_score": float(interval_score(effect - reference, with_noise, 0.95).mean()),
        "mse": float(np.mean((effect - reference) ** 2)),
        **{f"mse_{kind}": float(np.mean((values[others] - reference) ** 2)) for kind, values in baseline.items()},
        "noise": float(noise.mean()),
        "lam": float(table["lam"].iloc[0]),
        **discoveries(table[others], reference, noise),
    }


def discoveries(table: pd.DataFrame, truth: np.ndarray, noise: np.ndarray) -> dict:
    """Genes at 5 % false discovery rate, and those that truly change by less than 2 % or the other way; known truth only."""
    if noise.any():
        return {"discoveries": np.nan, "false_discoveries": np.nan}
    called = (table["adj_p_value"] < 0.05).to_numpy()
    wrong = is_wrong(table["effect"].to_numpy(), truth)
    return {"discoveries": int(called.sum()), "false_discoveries": int((called & wrong).sum())}


def is_wrong(effect: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Whether calling a gene would be false: its true effect is negligible or goes the other way."""
    return (np.abs(truth) < NEGLIGIBLE) | (np.sign(truth) != np.sign(effect))


def each_once(rows: list[dict], *keys: str) -> pd.DataFrame:
    """One row a screen, sample, target and key: a real perturbation that was held out under several seeds counts once."""
    frame = pd.DataFrame(rows)
    is_real = frame.groupby("screen")["noise"].transform("max") > 0
    own = frame.assign(sample=np.where(is_real, -1, frame["seed"]))
    return own.groupby(["screen", *keys, "sample", "target"], sort=False).mean(numeric_only=True).reset_index()


def summarise(rows: list[dict]) -> pd.DataFrame:
    """Means over targets, each counted once."""
    keys, frame = ["screen", "way"], each_once(rows, "way")
    table = frame.groupby(keys, sort=False).agg(
        targets=("target", "size"),
        **{f"coverage_{level:g}": (f"coverage_{level:g}", "mean") for level in LEVELS},
        se_95=("coverage_0.95", "sem"),
        all_95=("coverage_0.95_all", "mean"),
        judged=("judged", "mean"),
        width=("width", "mean"),
        interval_score=("interval_score", "mean"),
        lam=("lam", "mean"),
        discoveries=("discoveries", "sum"),
        false_discoveries=("false_discoveries", "sum"),
        median_ratio=("ratio_to_mean", "median"),
        seconds=("seconds", "mean"),
        **{column: (column, "mean") for column in ("weights", "mse", "mse_mean", "mse_zero", "mse_ridge", "noise")},
    )
    table.insert(0, "seeds", pd.DataFrame(rows).groupby(keys, sort=False)["seed"].nunique())
    signal = table["mse"] - table["noise"]  # the noise of the observation is nobody's error
    for kind in ("mean", "zero", "ridge"):
        table[f"mse/{kind}"] = signal / (table.pop(f"mse_{kind}") - table["noise"])
    return table.drop(columns=["noise"])
