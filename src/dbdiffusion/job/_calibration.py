"""The calibration section of the report: would the intervals have held, and what does the test say of control cells?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from dbdiffusion.plotting import coverage_by_level, null_quantiles, pit_histogram

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from dbdiffusion.model import Calibration, DBDiffusion, NullCalibration

N_SPLITS = 50
FILE = "calibration.png"
CAPTION = (
    "Coverage of left-out perturbations by level, the level at which intervals just cover, and p-values of control cells "
    "against control cells."
)


@dataclass(frozen=True)
class Checked:
    """Calibration of a screen, or why there is none.

    Parameters
    ----------
    unseen, null
        None where the screen is too small.
    why_not
        Reasons, for the report.
    """

    unseen: Calibration | None
    null: NullCalibration | None
    why_not: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for the summary."""
        return {
            "unseen": None if self.unseen is None else self.unseen.table.to_dict(orient="records"),
            "null": None if self.null is None else self.null.table.mean().to_dict(),
            "why_not": list(self.why_not),
        }


def check_calibration(model: DBDiffusion, cross_fitting: str, seed: int) -> Checked:
    """Both checks; what a screen is too small for comes back as a reason."""
    reasons = []
    try:
        unseen = model.calibration(cross_fitting=cross_fitting, seed=seed)
    except ValueError as error:
        unseen = None
        reasons.append(str(error))
    try:
        null = model.null_calibration(n_splits=N_SPLITS, seed=seed)
    except ValueError as error:
        null = None
        reasons.append(str(error))
    return Checked(unseen, null, tuple(reasons))


def draw_calibration(checked: Checked, folder: Path) -> list[tuple[str, str]]:
    """Write the plot, if there is anything to show; returns file names and captions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if checked.unseen is None and checked.null is None:
        return []
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9.6, 3.0), layout="constrained")
        FigureCanvasAgg(figure)
        first, second, third = figure.subplots(1, 3)
        if checked.unseen is not None:
            for kind, table in list(checked.unseen.table.groupby("kind", sort=False))[:1]:
                coverage_by_level(table, first, f"left-out {kind} perturbations")
            pit_histogram(checked.unseen.pit.to_numpy(), second, "flat if calibrated at every level")
        if checked.null is not None:
            null_quantiles(checked.null.p_values.to_numpy(), third, "control against control")
        for ax in (first, second, third):
            if not ax.has_data():
                ax.set_axis_off()
        figure.savefig(folder / FILE, dpi=130)
    return [(FILE, CAPTION)]


def calibration_lines(checked: Checked, markdown: Callable[[pd.DataFrame], str]) -> list[str]:
    """Paragraphs and tables for the report.

    Parameters
    ----------
    checked
        From :func:`check_calibration`.
    markdown
        Turns a table into text.
    """
    lines = ["## Can the intervals and p-values be trusted on this screen?", ""]
    if checked.unseen is not None:
        columns = ["kind", "level", "coverage", "coverage_se", "width", "width_mean", "width_zero"]
        lines += [
            "Every measured perturbation, predicted as if it had not been measured, against what was observed (the noise of "
            "the observation allowed for). `coverage` should be the level; `width` is that of the interval, beside it those of "
            "the mean of the references and of predicting zero, calibrated alike.",
            "",
            markdown(checked.unseen.table[columns].set_index("kind")),
            "",
            markdown(checked.unseen.tuned),
            "",
        ]
    if checked.null is not None:
        mean = checked.null.table.mean()
        lines += [
            f"Control cells as pseudo-perturbations of {mean['n_cells']:.0f} cells, tested against the other control cells: "
            f"p < .05 for {mean['below_0.05']:.1%} and p < .01 for {mean['below_0.01']:.2%} of the genes; "
            f"{mean['n_discoveries']:.2f} discoveries a test at 5 % false discovery rate, where there should be none.",
            "",
        ]
    return lines + [f"Not checked: {reason}" for reason in checked.why_not] + ([""] if checked.why_not else [])
