"""The evidence gap: the error that left-out references promised, beside the one of the perturbations that were hidden."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion.inference import Evidence, squared_errors
from dbdiffusion.job._contexts import rows_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dbdiffusion.job._evaluate import HeldOut
    from dbdiffusion.predict import Calibration

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


def gaps_of(
    views: Mapping[str | None, Any],
    effects: pd.DataFrame,
    held_out: Mapping[str | None, HeldOut | None],
    calibrations: Mapping[str | None, Calibration | None],
) -> dict[str | None, pd.DataFrame]:
    """The gap in every context; without contexts the one under the key None."""
    gaps = {}
    for name, view in views.items():
        table = effects[rows_in(effects, "context", name)]
        if name is not None:  # what tells how the target was rectified is that of its context
            table.attrs = {**effects.attrs, "rectifier_mean": effects.attrs.get("rectifier_means", {}).get(name, {})}
        gaps[name] = evidence_gap(view, table, held_out[name], calibrations[name])
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
