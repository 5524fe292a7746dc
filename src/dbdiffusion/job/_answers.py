"""What the trained model says of the targets, beside what was observed of hidden ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
from scipy import stats

from dbdiffusion.job._evaluate import HeldOut, labelled, observe, of_context, rows_in, score_targets, title_of

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from dbdiffusion.job._asked import Asked


# The first genes of every target, as a table that people read.


N_GENES = 20
LEVEL = 0.1  # of the list
INNER = 0.8  # confidence of the interval beside that of the table


@dataclass(frozen=True)
class GeneList:
    """What is said of one target.

    Parameters
    ----------
    title
        The target, and the context if there is one.
    n_listed
        Genes at 10 % wrong signs; None where there can be no list.
    genes
        The largest effects: ``gene, effect, low_80, high_80, low_95, high_95, lfsr, q``; none where every effect is zero.
    own
        The same of the genes that the target hits, of which others say nothing.
    """

    title: str
    n_listed: int | None
    genes: pd.DataFrame
    own: pd.DataFrame

    @property
    def sentence(self) -> str:
        """How many genes are listed, in words."""
        if self.genes.empty:
            return "No effect is predicted on any other gene."
        if self.n_listed is None:
            return "No list of genes can be checked for this target."
        if self.n_listed == 0:
            return f"No gene is listed at {LEVEL:.0%} wrong signs."
        verb = "gene is" if self.n_listed == 1 else "genes are"
        return f"{self.n_listed} {verb} listed at {LEVEL:.0%} wrong signs (q at most {LEVEL:g})."


def gene_lists(effects: pd.DataFrame, parts: dict[str, Sequence[str]]) -> list[GeneList]:
    """The list of every target and context, in the order of the table.

    Parameters
    ----------
    effects
        Of :meth:`DBDiffusion.predict_effects`, with 95 % intervals.
    parts
        Target to the names of the genes that it hits.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "target": "A",
    ...         "variable": ["A", "B"],
    ...         "effect": [-2.0, 0.5],
    ...         "se": 0.1,
    ...         "df": 9.0,
    ...         "ci_low": 0.1,
    ...         "ci_high": 0.9,
    ...         "lfsr": 0.01,
    ...         "adj_p_value": [np.nan, 0.04],
    ...     }
    ... )
    >>> (one,) = gene_lists(table, {"A": ["A"]})
    >>> one.n_listed, one.genes["gene"].tolist(), one.own["gene"].tolist()
    (1, ['B'], ['A'])
    """
    keys = ["target", *({"context"} & set(effects))]
    answer = []
    for key, rows in effects.groupby(keys, sort=False):
        target, *context = map(str, key)
        hit = rows["variable"].astype(str).isin([target, *map(str, parts.get(target, ()))]).to_numpy()
        others = rows[~hit]
        q = others["adj_p_value"]
        moved = others[others["effect"] != 0]
        largest = moved.iloc[np.argsort(-moved["effect"].abs().to_numpy(), kind="stable")[:N_GENES]]
        answer.append(
            GeneList(
                title=title_of(target, context[0] if context else None),
                n_listed=None if q.isna().all() else int((q <= LEVEL).sum()),
                genes=_readable(largest),
                own=_readable(rows[hit]),
            )
        )
    return answer


def _readable(rows: pd.DataFrame) -> pd.DataFrame:
    half = stats.t.ppf(0.5 + INNER / 2, rows["df"].astype(float)) * rows["se"].astype(float)
    values = {
        "gene": rows["variable"].astype(str),
        "effect": rows["effect"],
        "low_80": rows["effect"] - half,
        "high_80": rows["effect"] + half,
        "low_95": rows["ci_low"],
        "high_95": rows["ci_high"],
        "lfsr": rows["lfsr"],
        "q": rows["adj_p_value"],
    }
    return pd.DataFrame(values).reset_index(drop=True)


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
        for score in score_targets(view, of_context(effects, name), held_out[name]):
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
