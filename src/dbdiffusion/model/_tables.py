"""Tables of effects: of what was observed, the columns that explain a row, and what stands in ``attrs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dbdiffusion._keys import EFFECT_COLUMNS
from dbdiffusion.inference import Rectifier, effects_table
from dbdiffusion.model._answers import Answer, observed_estimate

if TYPE_CHECKING:
    import pandas as pd

    from dbdiffusion.model._fits import Fitted
    from dbdiffusion.model._screen import ScreenReader


def observed_table(reader: ScreenReader, context: str | None, confidence: float) -> pd.DataFrame:
    """Observed contrasts of all perturbations of a context, or of all cells."""
    names, observed = reader.effects(context)
    columns = {
        "lam": np.array(np.nan), "tau": np.array(np.nan), "n_reference": np.array(0), "status": np.array("measured"),
        "n_expressing": observed.n_expressing,
        "contrast": np.array([f"{name} vs {reader.control}" for name in names], dtype=object)[:, None],
    }  # fmt: skip
    table = effects_table(
        list(names), reader.var_names, observed_estimate(observed), observed.mean_control, confidence, columns,
        tested=observed.can_be_tested,
    )  # fmt: skip
    return table[list(EFFECT_COLUMNS)]


def fitted_attrs(fits: dict[str, Fitted]) -> dict[str, Any]:
    """What predicted the unseen targets, by kind."""
    rectifiers = {kind: fitted.rectifier for kind, fitted in fits.items()}
    lists = {
        kind: {"least_promise": fitted.rule.least_promise, "n_reference": fitted.rule.n_reference}
        for kind, fitted in fits.items()
        if fitted.rule is not None
    }
    return {
        "weights": {kind: rectifier.weights for kind, rectifier in rectifiers.items()},
        "rectifier_mean": {kind: {"rho": r.rho, "reference_set": r.reference_set, "control_weight": r.control_weight,
                                  "n_placed": int(r.spread_from.sum())}
                           for kind, r in rectifiers.items() if isinstance(r, Rectifier)},
        "lists": lists,
    }  # fmt: skip


def explaining_columns(answers: list[Answer], names: list[str], unseen: set[str], control: str) -> dict[str, np.ndarray]:
    """Columns that say what each answer rests on; arrays that broadcast to (T, G)."""
    n_genes = len(answers[0].estimate.effect)
    return {
        "lam": np.array([answer.lam for answer in answers])[:, None],
        "tau": np.stack([np.broadcast_to(answer.tau, (n_genes,)) for answer in answers]),
        "n_reference": np.array([answer.n_reference for answer in answers])[:, None],
        "n_expressing": np.stack([np.broadcast_to(answer.n_expressing, (n_genes,)) for answer in answers]),
        "status": np.array(["unseen" if name in unseen else "measured" for name in names])[:, None],
        "contrast": np.array([f"{name} vs {control}" for name in names], dtype=object)[:, None],
    }
