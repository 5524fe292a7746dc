"""The calibration section of the report: would the intervals have held, and what does the test say of control cells?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from dbdiffusion.job._evaluate import stacked
from dbdiffusion.plotting import coverage_by_level, null_quantiles, pit_histogram, sign_reliability

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

    from dbdiffusion.model import DBDiffusion
    from dbdiffusion.predict import Calibration, NullCalibration

N_SPLITS = 50
TRUSTED = "Can the intervals and p-values be trusted on this screen?"
FILE = "calibration.png"
CAPTION = (
    "Coverage of left-out perturbations by level, the level at which intervals just cover, how often their observed signs "
    "differ from the predicted ones beside how often they should by lfsr and noise, and p-values of control cells against "
    "control cells."
)


@dataclass(frozen=True)
class Checked:
    """Calibration of a screen or of one of its contexts, or why there is none.

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
            "evidence": None if self.unseen is None else self.unseen.evidence.to_dict(orient="index"),
            "lists": None if self.unseen is None else self.unseen.lists.to_dict(orient="records"),
            "signs": None if self.unseen is None else self.unseen.signs.to_dict(orient="records"),
            "accuracy": None if self.unseen is None else self.unseen.accuracy.to_dict(orient="index"),
            "thirds": None if self.unseen is None else self.unseen.thirds.to_dict(orient="records"),
            "verdict": None if self.unseen is None else self.unseen.verdict,
            "placebo": None if self.unseen is None else self.unseen.placebo.mean().to_dict(),
            "null": None if self.null is None else self.null.table.mean().to_dict(),
            "why_not": list(self.why_not),
        }


def check_calibration(model: DBDiffusion, cross_fitting: str, seed: int) -> Checked:
    """Both checks of a model, or of one as it is in a context; what a screen is too small for comes back as a reason."""
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


def draw_calibration(checked: Mapping[str | None, Checked], folder: Path) -> list[tuple[str, str]]:
    """Write the plot, a row a context, if there is anything to show; returns file names and captions."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = {name: one for name, one in checked.items() if one.unseen is not None or one.null is not None}
    if not shown:
        return []
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}):
        figure = Figure(figsize=(12.4, 3.0 * len(shown)), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (name, one) in zip(figure.subplots(len(shown), 4, squeeze=False), shown.items(), strict=True):
            _draw(one, axes, "" if name is None else f"\n{name}")
        figure.savefig(folder / FILE, dpi=130)
    return [(FILE, CAPTION)]


def _draw(checked: Checked, axes: Sequence[Axes], where: str) -> None:
    first, second, third, fourth = axes
    if checked.unseen is not None:
        for kind, table in list(checked.unseen.table.groupby("kind", sort=False))[:1]:
            coverage_by_level(table, first, f"left-out {kind} perturbations{where}")
        pit_histogram(checked.unseen.pit.to_numpy(), second, f"flat if calibrated at every level{where}")
        signs = checked.unseen.signs
        signs = signs[signs["n_signs"] > 0] if len(signs) else signs
        for kind, table in list(signs.groupby("kind", sort=False))[:1] if len(signs) else ():
            sign_reliability(table, third, f"wrong signs of left-out {kind} ones{where}")
    if checked.null is not None:
        null_quantiles(checked.null.p_values.to_numpy(), fourth, f"control against control{where}")
    for ax in axes:
        if not ax.has_data():
            ax.set_axis_off()


def calibration_lines(checked: Mapping[str | None, Checked], markdown: Callable[[pd.DataFrame], str]) -> list[str]:
    """Paragraphs and tables of the section :data:`TRUSTED` of the report.

    Parameters
    ----------
    checked
        From :func:`check_calibration`, by context.
    markdown
        Turns a table into text.
    """
    said = []
    unseen = {name: one.unseen for name, one in checked.items() if one.unseen is not None}
    if unseen:
        columns = ["kind", "level", "coverage", "coverage_se", "width", "width_mean", "width_zero"]
        said += [
            "Every measured perturbation, predicted as if it had not been measured, against what was observed (the noise of "
            "the observation allowed for). `coverage` should be the level; `width` is that of the interval, beside it those of "
            "the mean of the references and of predicting zero, calibrated alike.",
            markdown(stacked({name: one.table[columns].set_index("kind") for name, one in unseen.items()})),
            _OF_EVIDENCE,
            markdown(stacked({name: one.evidence for name, one in unseen.items()})),
            _OF_WEIGHTS,
            markdown(stacked({name: one.tuned for name, one in unseen.items()})),
        ]
        lists = {name: one.lists.set_index("kind") for name, one in unseen.items() if len(one.lists)}
        said += [_OF_LISTS, markdown(stacked(lists))] if lists else []
        signs = {name: _readable_signs(one.signs) for name, one in unseen.items() if len(one.signs)}
        said += [_OF_SIGNS, markdown(stacked(signs))] if signs else []
        said += [_OF_THIRDS, markdown(stacked({name: one.thirds.set_index("kind") for name, one in unseen.items()}))]
        said += [_of_placebo(one.placebo, name) for name, one in unseen.items() if len(one.placebo)]
    for name, one in checked.items():
        if one.null is not None:
            said.append(_of_null(one.null, "" if name is None else f"**{name}.** "))
    reasons = [(name, reason) for name, one in checked.items() for reason in one.why_not]
    return said + [f"Not checked{'' if name is None else f' in {name}'}: {reason}" for name, reason in reasons]


_OF_EVIDENCE = (
    "Squared error of left-out perturbations, divided by that of the mean of the others (`relative_to_mean`) and by that of no "
    "effect (`relative_to_zero`), with standard errors (`_se`). Clearly below 1 means that the predictions know something."
)
_OF_WEIGHTS = "Weights of the predictors, tuned on left-out perturbations. Near 0: it did not help on this screen."
_OF_LISTS = (
    "The gene list of every measured perturbation, made by the others, at levels of wrong signs or null effects: `n_listed` "
    "genes in the median, `share_empty` of the lists, `wrong` on average (an empty list counts as right), `wrong_if_any` in "
    "lists that are not empty, `pooled` over all listed genes. These shares allow for the noise of the observation, so with "
    "few genes they can leave the range from 0 to 1."
)
_OF_SIGNS = (
    "Do signs differ as often as `lfsr` says? The signs of left-out perturbations by class of `lfsr`: mean `lfsr`, the share "
    "of observed signs that should differ from the predicted ones, by `lfsr` and by the noise of the observation (`expected`), "
    "and the share that do (`observed`, with the standard error of the difference)."
)
_OF_THIRDS = "Coverage of 95 % intervals in thirds of what is known of a perturbation without its cells."


def _readable_signs(signs: pd.DataFrame) -> pd.DataFrame:
    """Classes of lfsr that hold signs."""
    return signs[signs["n_signs"] > 0].set_index("kind").drop(columns=["lfsr_from", "lfsr_to"])


def _of_placebo(placebo: pd.DataFrame, context: str | None) -> str:
    mean = placebo.mean()
    return (
        f"{'' if context is None else f'**{context}.** '}A placebo: with what is known of perturbations permuted among them, "
        f"{len(placebo)} times, predictors got a weight of {mean['weight']:.2f} on average, which should be near zero, and the "
        f"left-out error was {mean['relative_to_mean']:.2f} times the mean's and {mean['relative_to_zero']:.2f} times that of "
        "no effect."
    )


def _of_null(null: NullCalibration, where: str) -> str:
    mean = null.table.mean()
    return (
        f"{where}Control cells as pseudo-perturbations of {mean['n_cells']:.0f} cells, tested against the other control cells: "
        f"p < .05 for {mean['below_0.05']:.1%} and p < .01 for {mean['below_0.01']:.2%} of the genes; "
        f"{mean['n_discoveries']:.2f} discoveries a test at 5 % false discovery rate, where there should be none."
    )
