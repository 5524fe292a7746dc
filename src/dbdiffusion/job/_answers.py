"""What the trained model says of the targets, beside what was observed of hidden ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from dbdiffusion.job._contexts import labelled, rows_in
from dbdiffusion.job._evaluate import HeldOut, observe, score_targets

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from anndata import AnnData

    from dbdiffusion.job._asked import Asked


def everything(views: Mapping[str | None, Any], asked: Asked, effects: pd.DataFrame) -> pd.DataFrame:
    """Effects of what was measured in the context, then those of the other targets, sorted likewise.

    What was measured elsewhere may have no place in the context.
    """
    tables: list[pd.DataFrame] = []
    obs, setup = asked.rest.obs, asked.setup
    for name, view in views.items():
        here = obs.loc[rows_in(obs, setup["context_key"], name), setup["perturbation_key"]]
        measured = [known for known in view.perturbation_names if known in set(here.astype(str))]
        tables.append(labelled(view.differential_expression_ppi(measured), name))
        others = effects[rows_in(effects, "context", name) & ~effects["target"].isin(measured)]
        for _, of_target in others.groupby("target", sort=False):
            tables.append(of_target.sort_values("p_value", kind="stable")[tables[0].columns])
    return pd.concat(tables, ignore_index=True)


def generate(views: Mapping[str | None, Any], targets: list[str], arguments: Namespace) -> AnnData:
    """Cells of every target in every context."""
    cells = {name: view.generate(targets, arguments.n_cells, seed=arguments.seed) for name, view in views.items()}
    if None in cells:
        return cells[None]
    return ad.concat(cells, label=arguments.context_key, index_unique="-", uns_merge="first")


def observe_hidden(
    views: Mapping[str | None, Any], control: AnnData, asked: Asked, seed: int
) -> dict[str | None, HeldOut | None]:
    """What was observed of the hidden perturbations in every context; None where there are none."""
    found: dict[str | None, HeldOut | None] = {}
    for name, view in views.items():
        cells, controls = (part[rows_in(part.obs, asked.setup["context_key"], name)] for part in (asked.cells, control))
        found[name] = None
        if cells.n_obs:
            together = ad.concat([controls, cells], join="outer", merge="first", uns_merge="first")
            found[name] = observe(view, together, asked.setup, seed)
    return found


def with_observed(
    effects: pd.DataFrame, held_out: Mapping[str | None, HeldOut | None], truth: pd.DataFrame | None
) -> pd.DataFrame:
    """The table of effects with the columns ``observed, observed_se`` and, if it is known, ``true_effect``."""
    attrs = effects.attrs
    columns = ["target", "variable", *({"context"} & set(effects))]
    tables = [labelled(one.observed, name) for name, one in held_out.items() if one is not None]
    seen: dict[str, Any] = {"observed": np.nan, "observed_se": np.nan}
    if tables:
        by_key = pd.concat(tables).set_index(columns)[["effect", "se"]]
        seen = dict(zip(seen, by_key.reindex(pd.MultiIndex.from_frame(effects[columns])).to_numpy().T, strict=True))
    effects = effects.assign(**seen)
    if truth is not None:
        effects["true_effect"] = truth.stack().reindex(pd.MultiIndex.from_frame(effects[columns])).to_numpy()
    effects.attrs = attrs
    return effects


def scores_of(
    views: Mapping[str | None, Any], effects: pd.DataFrame, held_out: Mapping[str | None, HeldOut | None]
) -> list[dict[str, Any]]:
    """Scores of every target in every context."""
    scores = []
    for name, view in views.items():
        where = {} if name is None else {"context": name}
        for score in score_targets(view, effects[rows_in(effects, "context", name)], held_out[name]):
            scores.append({"target": score["target"], **where, **score})
    return scores


def predicted(effects: pd.DataFrame) -> list[str]:
    """Targets that were predicted without any of their cells, in some context at least.

    Examples
    --------
    >>> predicted(pd.DataFrame({"target": ["A", "B"], "status": ["unseen", "measured"]}))
    ['A']
    """
    return list(effects.loc[effects["status"] == "unseen", "target"].unique())
