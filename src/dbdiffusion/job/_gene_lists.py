"""The first genes of every target, as a table that people read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from dbdiffusion.job._contexts import title_of

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        The largest effects: ``gene, effect, low_80, high_80, low_95, high_95, lfsr, q``.
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
        largest = others.iloc[np.argsort(-others["effect"].abs().to_numpy(), kind="stable")[:N_GENES]]
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
