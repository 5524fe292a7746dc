"""Tables of effects: of what was observed, the columns that explain a row, and what stands in ``attrs``."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dbdiffusion._keys import EFFECT_COLUMNS
from dbdiffusion.inference import Estimate, Rectifier, effects_table
from dbdiffusion.predict._answers import Answer, observed_estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from dbdiffusion.embedding import PerturbationSpace
    from dbdiffusion.predict._fitted import Fitted
    from dbdiffusion.predict._recipe import Recipe
    from dbdiffusion.screen import ObservedEffects, Screen


def observed_table(
    names: Sequence[str], observed: ObservedEffects, var_names: np.ndarray, control: str, confidence: float
) -> pd.DataFrame:
    """Observed contrasts of named perturbations.

    Examples
    --------
    >>> screen = model.predictor().screen
    >>> table = observed_table(screen.names, screen.observed, screen.var_names, "control", 0.95)
    >>> table["status"].unique().tolist()
    ['measured']
    """
    columns = {
        "lam": np.array(np.nan), "tau": np.array(np.nan), "n_reference": np.array(0), "status": np.array("measured"),
        "n_expressing": observed.n_expressing,
        "contrast": np.array([f"{name} vs {control}" for name in names], dtype=object)[:, None],
    }  # fmt: skip
    table = effects_table(
        list(names), var_names, observed_estimate(observed), observed.mean_control, confidence, columns,
        tested=observed.can_be_tested,
    )  # fmt: skip
    return table[list(EFFECT_COLUMNS)]


def answers_table(
    screen: Screen,
    space: PerturbationSpace,
    names: Sequence[str],
    answers: Mapping[str, Answer],
    fits: Mapping[str, Fitted],
    recipe: Recipe,
) -> pd.DataFrame:
    """Answers as a table: one row a target and gene, genes in the order of the screen."""
    in_order = [answers[name] for name in names]
    unseen = [name for name in names if not space.is_measured(name)]
    table = effects_table(
        list(names),
        screen.var_names,
        Estimate(*(np.stack([getattr(answer.estimate, a) for answer in in_order]) for a in ("effect", "se", "df"))),
        np.stack([_mean_control(screen, space, name) for name in names]),
        recipe.confidence,
        explaining_columns(in_order, names, set(unseen), screen.control),
        recipe.fdr,
        recipe.smallest_effect,
        [answer.null for answer in in_order],
        np.stack([np.broadcast_to(answer.can_be_tested, len(screen.var_names)) for answer in in_order]),
        [answer.q_value for answer in in_order],
        [answer.lfsr for answer in in_order],
    )[list(EFFECT_COLUMNS)]
    table.attrs = {
        **_plain(recipe),
        "scale": "mean log1p CP10K, natural log",
        **fitted_attrs(fits),
        "told_apart": {name: answers[name].told_apart for name in unseen},
        **_plain(recipe.options),
    }
    return table


def _plain(options: object) -> dict[str, Any]:
    """Fields of a dataclass that were chosen, but for those that are dataclasses themselves."""
    chosen = {one.name: getattr(options, one.name) for one in fields(options)}  # type: ignore[arg-type]
    return {name: value for name, value in chosen.items() if value is not None and not is_dataclass(value)}


def _mean_control(screen: Screen, space: PerturbationSpace, name: str) -> np.ndarray:
    row = space.row(name)
    return screen.observed.mean_control[slice(None) if row is None else [row]].mean(axis=0)


def fitted_attrs(fits: Mapping[str, Fitted]) -> dict[str, Any]:
    """What predicted the unseen targets, by kind."""
    rectifiers = {kind: fitted.rectifier for kind, fitted in fits.items()}
    lists = {
        kind: {"least_promise": fitted.rule.least_promise, "n_reference": fitted.rule.n_reference}
        for kind, fitted in fits.items()
        if fitted.rule is not None
    }
    return {
        "weights": {kind: rectifier.weights for kind, rectifier in rectifiers.items()},
        "rectifier_mean": {kind: {"rho": r.rho, "control_weight": r.control_weight,
                                  "n_placed": int(r.spread_from.sum())}
                           for kind, r in rectifiers.items() if isinstance(r, Rectifier)},
        "lists": lists,
    }  # fmt: skip


def explaining_columns(
    answers: Sequence[Answer], names: Sequence[str], unseen: set[str], control: str
) -> dict[str, np.ndarray]:
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
