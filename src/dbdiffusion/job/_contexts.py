"""A report in parts: one for every context of the model, or a single one under the key None."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbdiffusion.model import DBDiffusion

Part = TypeVar("Part")


def views_of(model: DBDiffusion) -> dict[str | None, Any]:
    """The model as it is in each of its contexts; without contexts the model itself."""
    return {name: model.in_context(name) for name in model.contexts} or {None: model}


def title_of(target: str, context: str | None) -> str:
    """A target, and the context if there is one.

    Examples
    --------
    >>> title_of("MYC", None), title_of("MYC", "day 3")
    ('MYC', 'MYC (day 3)')
    """
    return target if context is None else f"{target} ({context})"


def rows_in(table: pd.DataFrame, column: str | None, context: str | None) -> np.ndarray:
    """Which rows (N,) are of a context; all of them where there are no contexts.

    Examples
    --------
    >>> rows_in(pd.DataFrame({"day": [2, 3]}), "day", "3").tolist()
    [False, True]
    """
    if column is None or context is None:
        return np.ones(len(table), dtype=bool)
    return (table[column].astype(str) == context).to_numpy()


def stacked(tables: Mapping[str | None, pd.DataFrame]) -> pd.DataFrame:
    """Tables of contexts below each other, the context as first column.

    Examples
    --------
    >>> stacked({"early": pd.DataFrame({"x": [1]}), "late": pd.DataFrame({"x": [2]})})["context"].tolist()
    ['early', 'late']
    """
    if None in tables:
        return tables[None]
    return pd.concat([labelled(table, name)[["context", *table.columns]] for name, table in tables.items()])


def labelled(table: pd.DataFrame, context: str | None) -> pd.DataFrame:
    """The table with the context as a column, if there is one."""
    return table if context is None else table.assign(context=context)


def of_contexts(parts: Mapping[str | None, Part]) -> Any:
    """What is said of each context; without contexts, the one thing that is said."""
    return parts.get(None, parts)
