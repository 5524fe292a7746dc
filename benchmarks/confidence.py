"""Is a target's expected accuracy what comes out, and do intervals hold in thirds of what is known beforehand?

Written by ``discoveries.py``. Every perturbation of a screen is a target in turn, its accuracy said by the others
(``target_confidence``) and compared with the truth; its own gene does not count. ``order``: Spearman correlation of expected
and realised correlation of prediction and truth, median over screens. ``90 % holds``: share of realised correlations inside
their interval. ``expected`` and ``realised`` are means inside thirds of what was expected, all screens of a kind together:
low, middle, high. ``coverage by ...`` is that of 95 % intervals of the truth inside thirds of expected correlation, of
similarity with the nearest measured perturbation, and of the size of the prediction; ``se`` the largest standard error over
perturbations of the nine. ``relative score`` is the interval score over that of the mean of the measured perturbations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from dbdiffusion.embedding import nearest_similarity
from dbdiffusion.inference import fit_confidence, fit_rectifier, leave_one_out
from dbdiffusion.metrics import interval_score, two_sided_pit

if TYPE_CHECKING:
    from _screens import Screen
    from evidence import Believed

    from dbdiffusion.inference import Rectifier

LEVEL = 0.95
BY = {"expected": "confidence", "similarity": "similarity", "strength": "strength"}
THIRDS = ("low", "middle", "high")


def rows_of(screen: Screen, believed: Believed, rectifier: Rectifier) -> list[dict]:
    """A row a perturbation; none where the truth is not known."""
    if screen.is_noisy:
        return []
    spaces, references = believed.spaces, believed.references
    measured = spaces.screen
    similarity = np.empty(len(measured.names))
    for space, rows in spaces.folds():
        similarity[rows] = nearest_similarity(space, [measured.names[row] for row in rows])
    confidence = fit_confidence(rectifier, references, similarity, measured.is_listable, measured.halves)
    if confidence is None:
        return []
    said = confidence.left_out()
    truth = screen.reference.loc[list(measured.names)].to_numpy()
    covered, score = _interval(rectifier, believed, truth)
    _, score_of_mean = _interval(fit_rectifier(references, lam=0.0, rho=1.0), believed, truth)
    predicted = rectifier.loo_predicted
    answer = []
    for i, name in enumerate(measured.names):
        others = ~references.is_own_gene[i]
        known = predicted[i, others].any() and truth[i, others].any()
        answer.append(
            {
                "screen": screen.name, "target": name, "expected": said["correlation"][i], "low": said["correlation_low"][i],
                "high": said["correlation_high"][i],
                "realised": np.corrcoef(predicted[i, others], truth[i, others])[0, 1] if known else np.nan,
                "similarity": similarity[i], "strength": float(np.sqrt((predicted[i, others] ** 2).mean())),
                "covered": covered[i, others].mean(), "score": score[i, others].mean(),
                "score of mean": score_of_mean[i, others].mean(),
            }
        )  # fmt: skip
    return answer


def _interval(rectifier: Rectifier, believed: Believed, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether 95 % intervals of left-out references hold the truth, and their scores (K, G)."""
    estimate = leave_one_out(rectifier, believed.references.without_own_genes())
    error, se = estimate.effect - truth, np.sqrt(estimate.se**2 + rectifier.control_variance)
    pit = two_sided_pit(error, se, estimate.df)
    half = stats.t.ppf(0.5 + LEVEL / 2, estimate.df) * se
    return pit <= LEVEL, interval_score(error, half, LEVEL)


def summarise(rows: list[dict]) -> pd.DataFrame:
    tables = {}
    for name, part in pd.DataFrame(rows).groupby("screen", sort=False):
        told = part.dropna(subset=["expected", "realised"])
        orders = [stats.spearmanr(one["expected"], one["realised"])[0] for _, one in told.groupby("seed") if len(one) > 2]
        inside = (told["low"] <= told["realised"]) & (told["realised"] <= told["high"])
        table = {"screens": part["seed"].nunique(), "targets": len(part), "order": np.nanmedian(orders) if orders else np.nan}
        table |= {"90 % holds": inside.mean()} | {"coverage": part["covered"].mean()}
        table["relative score"] = part["score"].sum() / part["score of mean"].sum()
        for third, one in zip(THIRDS, _thirds(told, "expected"), strict=True):
            table |= {f"expected {third}": one["expected"].mean(), f"realised {third}": one["realised"].mean()}
        largest = 0.0
        for column, what in BY.items():
            for third, one in zip(THIRDS, _thirds(part.dropna(subset=[column]), column), strict=True):
                table[f"coverage by {what} {third}"] = one["covered"].mean()
                largest = max(largest, float(one["covered"].sem()))
        tables[name] = table | {"se": largest}
    return pd.DataFrame(tables).T.rename_axis("screen")


def _thirds(rows: pd.DataFrame, column: str) -> list[pd.DataFrame]:
    """Rows by rising values of a column."""
    ordered = rows.sort_values(column, kind="stable")
    return [ordered.iloc[index] for index in np.array_split(np.arange(len(ordered)), len(THIRDS))]
