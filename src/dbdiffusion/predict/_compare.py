"""Was it right? A prediction beside what was measured later, the noise of the measurement known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion._keys import said_of
from dbdiffusion._words import say
from dbdiffusion.inference import squared_errors
from dbdiffusion.metrics import error_ratio, pearson, sign_agreement, two_sided_pit
from dbdiffusion.predict._calibration import STANDARD_ERRORS, better_or_not
from dbdiffusion.predict._new_cells import effects_of_cells
from dbdiffusion.screen import NameRule, effect_table, meant

if TYPE_CHECKING:
    from collections.abc import Iterable


TOP = 50  # largest predicted effects whose signs are told
LISTED = 0.1
LARGEST_MEAN = 20.0  # of log1p: above all counts per 10,000
OTHER_SCALE = 2.0  # times as much in control cells of two experiments: cells and depths seldom differ so much, scales do
NEEDED = ("target", "variable", "effect")
CONTEXT = "context"


@dataclass(frozen=True)
class Comparison:
    """A prediction held against a measurement.

    Parameters
    ----------
    table
        One row a target (and context): ``n_genes``, ``pearson`` of the effects, ``coverage`` (share of observed effects in
        their intervals, widened by the observation's noise), ``right_signs`` (of the 50 largest predicted effects; a perfect
        prediction does not reach 1, since the observation is noisy), ``n_listed`` (genes at an adjusted p-value of .1),
        ``list_wrong`` (twice the share of them whose observed sign disagrees: in expectation at least the share that is wrong),
        ``relative_to_zero`` and ``relative_to_mean`` (squared error over that of "no effect" and of the mean of the measured
        perturbations, noise taken out; NaN where the other has no error beyond noise).
    genes
        One row a target and gene: ``effect, ci_low, ci_high, observed, observed_se, level`` (at which the interval covers).
    verdict
        What it comes to, in words.

    Examples
    --------
    >>> import dbdiffusion
    >>> name = model.perturbation_names[0]
    >>> comparison = dbdiffusion.compare(model.predict_effects(name).assign(status="unseen"), model.observed_effects())
    >>> comparison.genes.columns.tolist()[:4]
    ['target', 'variable', 'effect', 'ci_low']
    """

    table: pd.DataFrame
    genes: pd.DataFrame
    verdict: str


def compare(
    predicted: pd.DataFrame,
    observed: Any,
    mean: pd.Series | None = None,
    shared_control: pd.Series | None = None,
    separator: str = "+",
    **cells: Any,
) -> Comparison:
    """Hold predicted effects against what was measured afterwards.

    Parameters
    ----------
    predicted
        From :meth:`DBDiffusion.predict_effects` or :func:`rectify`.
    observed
        The same targets measured: the table of :meth:`DBDiffusion.observed_effects`; effects as a DataFrame, perturbations x
        genes, taken for exact; or an AnnData of counts with the new cells and control cells of their own experiment.
    mean
        Mean effect of the measured perturbations by gene, ``model.baseline_effects(target)["mean"]``; None leaves it out.
    shared_control
        Sampling variance by gene of the control mean, where the new cells were contrasted with the *training's* control cells.
        Prediction and observation then share an error, which is taken into account in squared errors; signs agree by it too
        often, which the verdict says. None: the new experiment has control cells of its own.
    separator
        Between the parts of a combination. Genes that a target itself hits do not count.
    **cells
        Of an AnnData: ``perturbation_key`` (``"perturbation"``), ``control`` (``"control"``), ``batch_key``, ``layer``,
        ``size_factor_key``, as in :meth:`DBDiffusion.setup_anndata`.

    Raises
    ------
    KeyError
        If no target was measured, or a column is missing.
    ValueError
        If no gene is the same, several rows would answer to one, new cells are no raw counts or lack a label, or an argument
        does not fit.

    Warns
    -----
    ScreenWarning
        Where a target was measured in the training, or the control cells of both experiments are not on one scale.

    Examples
    --------
    >>> import dbdiffusion
    >>> predicted = model.predict_effects(model.perturbation_names[:2]).assign(status="unseen")  # as if they were predicted
    >>> comparison = dbdiffusion.compare(predicted, model.observed_effects())
    >>> comparison.table["coverage"].tolist()
    [1.0, 1.0]
    """
    ours = _checked(predicted, "`predicted`")
    control = str(cells.get("control", NameRule.control))
    rule = NameRule(control, separator, whole=frozenset(ours["variable"]))
    theirs = _observed_table(observed, ours, rule, cells)
    both = _merged(ours, theirs, rule)
    _say_measured(both)
    _say_other_scale(ours, theirs)
    shared = _by_gene(shared_control, both, "shared_control")
    both["level"] = _levels(both, shared, _control_weight(predicted))
    both["mean"] = _by_gene(mean, both, "mean") if mean is not None else np.nan
    keys = [key for key in ("target", CONTEXT) if key in both]
    confidence = float(predicted.attrs.get("confidence", 0.95))
    rows, errors = [], []
    for name, one in both.groupby(keys, sort=False):
        row, error = _row(one, shared[one.index], _control_weight(predicted), confidence)
        rows.append(dict(zip(keys, name, strict=True)) | row)
        errors.append(error)
    table = pd.DataFrame(rows)
    verdict = _verdict(
        table, pd.DataFrame(errors), confidence, with_mean=mean is not None, is_shared=shared_control is not None
    )
    columns = [*keys, "variable", "effect", "ci_low", "ci_high", "observed", "observed_se", "level"]
    return Comparison(table, both[[column for column in columns if column in both]].reset_index(drop=True), verdict)


def _checked(table: Any, where: str) -> pd.DataFrame:
    if not isinstance(table, pd.DataFrame):
        msg = f"{where} must be a table of effects, one row a target and gene, got {type(table).__name__}."
        raise TypeError(msg)
    absent = [column for column in NEEDED if column not in table]
    if absent:
        msg = f"{where} must have the columns {list(NEEDED)}, as `predict_effects` gives them; {absent} are missing."
        raise KeyError(msg)
    keys = [key for key in ("target", CONTEXT, "variable") if key in table]
    if table.duplicated(keys).any():
        twice = table.loc[table.duplicated(keys), keys].iloc[0].tolist()
        msg = f"{where} must have one row a target and gene, got {twice} twice."
        raise ValueError(msg)
    return table.assign(target=table["target"].astype(str), variable=table["variable"].astype(str))


def _observed_table(observed: Any, ours: pd.DataFrame, rule: NameRule, cells: dict[str, Any]) -> pd.DataFrame:
    if hasattr(observed, "obs") and hasattr(observed, "X"):
        observed = effects_of_cells(observed, rule, **cells)
    elif cells:
        msg = f"{sorted(cells)} belong to an AnnData of cells, and `observed` is none; leave them out."
        raise ValueError(msg)
    if isinstance(observed, pd.DataFrame) and not set(NEEDED) <= set(observed.columns):
        genes = ours["variable"].unique().tolist()
        wide = effect_table(observed, "`observed`", rule, genes)
        return wide.rename_axis("target").reset_index().melt("target", var_name="variable", value_name="effect").assign(se=0.0)
    table = _checked(observed, "`observed`")
    return table if "se" in table else table.assign(se=0.0)


def _merged(ours: pd.DataFrame, theirs: pd.DataFrame, rule: NameRule) -> pd.DataFrame:
    keys = ["_key", *([CONTEXT] if CONTEXT in ours and CONTEXT in theirs else []), "variable"]
    keyed = [table.assign(_key=[rule.key(name) for name in table["target"]]) for table in (ours, theirs)]
    for table, where in zip(keyed, ("`predicted`", "`observed`"), strict=True):
        _check_once(table, keys, where)
    right = keyed[1][[*keys, "effect", "se"]].rename(columns={"effect": "observed", "se": "observed_se"})
    left = keyed[0].drop(columns=["observed", "observed_se"], errors="ignore")  # as the job writes them beside predictions
    if not set(keyed[0]["_key"]) & set(right["_key"]):
        names = theirs["target"].unique().tolist()
        near = meant(ours["target"].iloc[0], names)
        msg = f"None of the predicted targets {ours['target'].unique().tolist()[:5]} is in `observed`, {names[:5]}.{near}"
        raise KeyError(msg)
    both = left.merge(right, on=keys, how="inner")
    if both.empty:
        msg = (
            f"`predicted` and `observed` have no gene in common: {ours['variable'].iloc[0]!r} and "
            f"{theirs['variable'].iloc[0]!r}, for instance. Name genes alike."
        )
        raise ValueError(msg)
    own = [gene in rule.parts(name) for gene, name in zip(both["variable"], both["target"], strict=True)]
    known = np.isfinite(both["effect"]) & np.isfinite(both["observed"])
    return both[~np.array(own) & known.to_numpy()].reset_index(drop=True)


def _check_once(table: pd.DataFrame, keys: list[str], where: str) -> None:
    """Raise where several rows would answer to one of the other table."""
    again = table.duplicated(keys, keep=False)
    if not again.any():
        return
    rows = table[again & (table["_key"] == table.loc[again, "_key"].iloc[0])]
    if CONTEXT in table and CONTEXT not in keys:
        got = f"in the contexts {rows[CONTEXT].unique().tolist()[:5]}, and the other table names none. Take one of them."
    else:
        got = f"as {rows['target'].unique().tolist()}. Keep one."
    msg = f"{where} must have one row a target and gene, but has {rows['target'].iloc[0]!r} {got}"
    raise ValueError(msg)


def _say_measured(both: pd.DataFrame) -> None:
    """Warn of targets that were no predictions."""
    if "status" in both and (both["status"] == "measured").any():
        names = both.loc[both["status"] == "measured", "target"].unique().tolist()
        say(
            f"{len(names)} targets were measured when the model was trained ({', '.join(names[:3])}, ...): their effects are "
            "observed, not predicted, and agree with the same cells by themselves. Hold out what is to judge predictions."
        )


def _say_other_scale(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    """Warn of two experiments whose control cells are not on one scale."""
    if not all("mean_control" in table for table in (ours, theirs)):
        return
    first, second = (table.groupby("variable")["mean_control"].mean() for table in (ours, theirs))
    common = first.index.intersection(second.index)
    expressed = common[(first[common] > 0) & (second[common] > 0)]
    levels = [np.expm1(np.minimum(mean[expressed], LARGEST_MEAN)) for mean in (first, second)]
    ratio = float(np.median(levels[1] / levels[0])) if len(expressed) else 1.0
    if not 1 / OTHER_SCALE < ratio < OTHER_SCALE:
        say(
            f"Control cells of the new experiment express the median gene {ratio:.2g} times as much as those of the training, "
            "so effects are on two scales. Hand in all genes that were set up, and the same `size_factor_key`; "
            "much shallower cells do it too."
        )


def _by_gene(given: Any, both: pd.DataFrame, argument: str) -> np.ndarray:
    """A value by gene, one a row."""
    if given is None:
        return np.zeros(len(both))
    if not isinstance(given, pd.Series):
        msg = f"`{argument}` must be a Series by gene, got {type(given).__name__}."
        raise TypeError(msg)
    absent = sorted(set(both["variable"]) - set(given.index.astype(str)))
    if absent or not given.index.is_unique:
        msg = f"`{argument}` must have one value for every gene; {absent[:5] or 'a gene twice'}."
        raise ValueError(msg)
    return both["variable"].map(given.set_axis(given.index.astype(str))).to_numpy(dtype=float)


def _control_weight(predicted: pd.DataFrame) -> float:
    """Of the control's error, what a prediction carries; all of it where that is not known."""
    attrs = predicted.attrs
    of_each = [said_of(attrs, name) for name in predicted[CONTEXT].unique()] if CONTEXT in predicted else [attrs]
    kinds = [kind for said in of_each for kind in (said.get("rectifier_mean") or {}).values()]
    weights = [kind["control_weight"] for kind in kinds if np.isfinite(kind.get("control_weight", np.nan))]
    return float(np.mean(weights)) if weights else 1.0


def _levels(both: pd.DataFrame, shared: np.ndarray, weight: float) -> np.ndarray:
    """Levels at which intervals just cover; of what prediction and observation share nothing is in their difference."""
    if "se" not in both or "df" not in both:
        return np.full(len(both), np.nan)
    own = np.maximum(both["observed_se"].to_numpy(dtype=float) ** 2 - shared, 0)
    se = np.sqrt(np.maximum(both["se"].to_numpy(dtype=float) ** 2 - weight**2 * shared, 0))
    error = (both["effect"] - both["observed"]).to_numpy(dtype=float)
    return two_sided_pit(error, se, both["df"].to_numpy(dtype=float), own + (1 - weight) ** 2 * shared)


def _row(one: pd.DataFrame, shared: np.ndarray, weight: float, confidence: float) -> tuple[dict[str, Any], dict[str, float]]:
    effect, seen = (one[column].to_numpy(dtype=float)[None] for column in ("effect", "observed"))
    own = np.maximum(one["observed_se"].to_numpy(dtype=float)[None] ** 2 - shared, 0)
    top = np.zeros(effect.shape, dtype=bool)
    top[0, np.argsort(-np.abs(effect[0]), kind="stable")[:TOP]] = True
    listed = one["adj_p_value"].to_numpy(dtype=float) <= LISTED if "adj_p_value" in one else np.zeros(len(one), dtype=bool)
    disagree = np.sign(effect[0]) * seen[0] <= 0
    error = {
        name: float(squared_errors(seen, values, own, shared, share)[0])
        for name, values, share in (
            ("prediction", effect, weight), ("zero", 0 * effect, 0.0), ("mean", one["mean"].to_numpy(dtype=float)[None], 1.0),
        )
    }  # fmt: skip
    row = {
        "n_genes": len(one),
        "pearson": float(pearson(effect, seen)[0]),
        "coverage": _share(one["level"].to_numpy(), confidence),
        "right_signs": float(sign_agreement(effect, seen, top)[0]),
        "n_listed": int(listed.sum()),
        "list_wrong": float(2 * disagree[listed].mean()) if listed.any() else np.nan,
        **{f"relative_to_{name}": _ratio(error["prediction"], error[name]) for name in ("zero", "mean")},
    }
    return row, error


def _share(level: np.ndarray, confidence: float) -> float:
    known = np.isfinite(level)
    return float((level[known] <= confidence).mean()) if known.any() else np.nan


def _ratio(error: float, other: float) -> float:
    return error / other if np.isfinite(other) and other > 0 else np.nan


def _verdict(table: pd.DataFrame, errors: pd.DataFrame, confidence: float, *, with_mean: bool, is_shared: bool) -> str:
    words = [f"{len(table)} target{'s' * (len(table) != 1)}."]
    if table["coverage"].notna().any():
        words.append(
            f"Intervals of {100 * confidence:g} % hold {_percent(table['coverage'])} of the observed effects, their noise "
            "allowed for."
        )
    words.append(f"Of the {TOP} largest predicted effects {_percent(table['right_signs'])} have the observed sign.")
    if table["n_listed"].sum():
        wrong = float((table["list_wrong"] * table["n_listed"]).sum() / table["n_listed"].sum())
        words.append(
            f"{int(table['n_listed'].sum())} genes were listed at {100 * LISTED:g} %, and at most about {100 * wrong:.0f} % of "
            "them are wrong."
        )
    ratios = []
    for name in ("zero", *(("mean",) if with_mean else ())):
        ratio, se = error_ratio(errors["prediction"].to_numpy(), errors[name].to_numpy())
        ratios.append((ratio, se, {"zero": "no effect", "mean": "the mean of the measured perturbations"}[name]))
    words += [_against(*one) for one in ratios]
    if is_shared:
        words.append("Prediction and observation share control cells, so signs agree more often than with new ones.")
    if len(table) < 3:
        words.append("So few targets tell little: genes of one perturbation err together.")
    return " ".join(words)


def _against(ratio: float, se: float, name: str) -> str:
    if not np.isfinite(ratio):
        return f"The error of {name} is not beyond the noise of the observation, so there is nothing to compare with."
    doubt = f" (standard error {se:.2f})" if np.isfinite(se) else ""
    is_worse = np.isfinite(se) and ratio > 1 + STANDARD_ERRORS * se
    better = "worse" if is_worse else better_or_not(ratio, se if np.isfinite(se) else 0.0)
    return f"Squared error is {max(ratio, 0.0):.2f}{doubt} of that of {name}: {better} than it."


def _percent(values: Iterable[float]) -> str:
    return f"{100 * float(np.nanmean(list(values))):.0f} %"
