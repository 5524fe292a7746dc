"""What left-out references say of lists, confidence and coverage of a screen, and that in two sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from dbdiffusion.inference import Rectifier, left_out_lists
from dbdiffusion.predict._target_confidence import confidence_of

if TYPE_CHECKING:
    from dbdiffusion.inference import Confidence
    from dbdiffusion.predict._fitted import Fitted
    from dbdiffusion.predict._predictor import Predictor
    from dbdiffusion.predict._recipe import Recipe

LIST_LEVEL = 0.1  # of the list that the verdict speaks of
STANDARD_ERRORS = 2.0  # that an error ratio must lie below one to be called better
NOMINAL = 0.95
MOST_JUDGED = 100  # references whose confidence is said by the others, which takes the square of their number
THIRDS = ("low", "middle", "high")


def lists_and_confidence(
    predictor: Predictor, recipe: Recipe, fitted: Fitted, members: np.ndarray, *, combination: bool
) -> tuple[pd.DataFrame, Confidence | None]:
    """Left-out lists by level (no rows where there can be none), and what left-out references say of a target's accuracy."""
    lists, screen = pd.DataFrame(), predictor.screen
    if fitted.rule is not None and screen.halves is not None and isinstance(fitted.rectifier, Rectifier):
        halves = screen.halves.subset(predictor.references(recipe).rows[members])
        lists = left_out_lists(fitted.rule, fitted.rectifier, fitted.references, screen.is_listable, halves)
    return lists, confidence_of(predictor, recipe, fitted, combination=combination)


def accuracy_of(confidence: Confidence | None) -> dict[str, float]:
    """Means over left-out references, how well what is expected of each orders them, and the share that intervals hold.

    Examples
    --------
    >>> accuracy_of(None)
    {}
    """
    if confidence is None:
        return {}
    n = len(confidence.correlation)
    confidence = confidence.subset(np.unique(np.linspace(0, n - 1, MOST_JUDGED).round().astype(int)))
    said = confidence.left_out()
    told = np.isfinite(said["correlation"])
    if not told.any():
        return {}
    realised = confidence.correlation
    inside = (said["correlation_low"] <= realised) & (realised <= said["correlation_high"])
    varies = np.ptp(said["correlation"][told]) > 0 and np.ptp(realised[told]) > 0
    order = stats.spearmanr(said["correlation"][told], realised[told])[0] if varies else np.nan
    answer = {"correlation": float(realised.mean()), **{f"right_{n}": float(v.mean()) for n, v in confidence.right.items()}}
    return answer | {"expected_against_realised": float(order), "interval_holds": float(inside[told].mean())}


def coverage_in_thirds(pit: np.ndarray, by: dict[str, np.ndarray]) -> pd.DataFrame:
    """Coverage of 95 % intervals inside thirds of what is known of a target beforehand.

    Parameters
    ----------
    pit
        (K, G) levels at which intervals just cover; NaN do not count.
    by
        Name to a number (K,) of each reference; perturbations where it is NaN are left out.

    Examples
    --------
    >>> table = coverage_in_thirds(np.full((6, 4), 0.5), {"strength": np.arange(6.0)})
    >>> table["third"].tolist(), table["coverage"].tolist()
    (['low', 'middle', 'high'], [1.0, 1.0, 1.0])
    """
    kept = np.isfinite(pit).any(axis=1)
    covered = np.full(len(pit), np.nan)
    covered[kept] = np.nanmean(np.where(np.isnan(pit), np.nan, pit <= NOMINAL)[kept], axis=1)
    rows = []
    for name, values in by.items():
        usable = np.flatnonzero(kept & np.isfinite(values))
        for third, inside in zip(THIRDS, np.array_split(usable[np.argsort(values[usable], kind="stable")], 3), strict=True):
            n = len(inside)
            mean = float(covered[inside].mean()) if n else np.nan
            se = float(covered[inside].std(ddof=1) / np.sqrt(n)) if n > 1 else np.nan
            rows.append({"by": name, "third": third, "n": n, "coverage": mean, "coverage_se": se})
    return pd.DataFrame(rows)


def verdict_of(evidence: pd.Series, lists: pd.DataFrame) -> str:
    """Two sentences: whether predictions are of use on this screen, and what lists hold.

    "Better" means that the squared error of left-out predictions, over that of the other, lies two standard errors below one.
    "Not surely better": below one, but not so far.

    Examples
    --------
    >>> ratios = {"relative_to_zero": 0.41, "relative_to_zero_se": 0.05, "relative_to_mean": 0.6, "relative_to_mean_se": 0.05}
    >>> print(verdict_of(pd.Series(ratios), pd.DataFrame()))
    On this screen left-out perturbations were predicted better than by no effect (0.41 times its squared error, standard \
error 0.05) and better than by the mean of the measured ones (0.60 times, standard error 0.05). There are no gene lists: no \
list can be checked here.
    """
    words = {}
    for kind in ("zero", "mean"):
        ratio, se = evidence[f"relative_to_{kind}"], evidence[f"relative_to_{kind}_se"]
        below = "not surely better" if f"{ratio:.2f}" < "1.00" else "no better"
        doubt = f", standard error {se:.2f}" if np.isfinite(se) else ", too few to say how surely"
        words[kind] = "better" if ratio + STANDARD_ERRORS * se < 1 else below, f"{ratio:.2f} times", doubt
    first = (
        f"On this screen left-out perturbations were predicted {words['zero'][0]} than by no effect ({words['zero'][1]} its "
        f"squared error{words['zero'][2]}) and {words['mean'][0]} than by the mean of the measured ones "
        f"({words['mean'][1]}{words['mean'][2]})."
    )
    return f"{first} {_of_lists(lists)}"


def _of_lists(lists: pd.DataFrame) -> str:
    if not len(lists):
        return "There are no gene lists: no list can be checked here."
    row = lists.loc[LIST_LEVEL]
    level, promise, share = f"{LIST_LEVEL:.0%}", f"{row['least_promise']:.0%}", f"{row['share_empty']:.0%}"
    if row["least_promise"] > LIST_LEVEL:
        return f"With so few measured perturbations no list can promise {level} wrong signs; the least promise is {promise}."
    if row["share_empty"] == 1:
        return f"No left-out perturbation had a gene list at {level} wrong signs: the screen does not tell which genes."
    if row["n_listed"] == 0:
        return (
            f"Gene lists that promise at most {level} wrong signs or null effects were empty for {share} of the left-out "
            f"perturbations, and held {row['wrong']:.1%} wrong ones on average (an empty one counts as right)."
        )
    return (
        f"Lists that promise at most {level} wrong signs or null effects had {row['n_listed']:.0f} genes in the median "
        f"({share} were empty) and held {row['wrong']:.1%} wrong ones on average."
    )
