"""Tables of effects that a user brings, perturbations x genes: checked, and aligned by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion.screen._names import NameRule, meant

if TYPE_CHECKING:
    from collections.abc import Sequence


def effect_table(given: Any, where: str, rule: NameRule | None = None, genes: Sequence[str] | None = None) -> pd.DataFrame:
    """A user's effects as a float frame with one row a perturbation, genes in a given order.

    Parameters
    ----------
    given
        DataFrame (index = perturbations, columns = genes), or an AnnData of perturbations x genes, whose X is read.
    where
        It was given, for the messages.
    rule
        How names are read: parts in any order, control's padding left out. None takes them as they are.
    genes
        That must be there; others are left out. None keeps those of the table.

    Raises
    ------
    TypeError
        If it is neither.
    KeyError
        If a gene is missing.
    ValueError
        If it is empty, has a name twice or names that mean the same, or values that are no finite numbers.

    Examples
    --------
    >>> given = pd.DataFrame([[1, 2], [3, 4]], index=["A", "ctrl+B"], columns=["g", "h"])
    >>> effect_table(given, "`effects`", NameRule(), ["h"])
         h
    A  2.0
    B  4.0
    """
    table = given.to_df() if hasattr(given, "to_df") and hasattr(given, "obs_names") else given
    if not isinstance(table, pd.DataFrame):
        msg = f"{where} must be a DataFrame or an AnnData of perturbations x genes, got {type(given).__name__}."
        raise TypeError(msg)
    if not table.shape[0] or not table.shape[1]:
        msg = f"{where} is empty, shape {table.shape}: it needs a row a perturbation and a column a gene."
        raise ValueError(msg)
    rule = rule or NameRule(separator="")
    index, columns = [str(name) for name in table.index], pd.Index([str(gene) for gene in table.columns])
    _check_unique([rule.key(name) for name in index], index, f"{where} has", "rows")
    _check_unique(list(columns), list(columns), f"{where} has", "columns")
    if genes is not None:
        found = columns.get_indexer(pd.Index(genes))
        absent = [str(gene) for gene, column in zip(genes, found, strict=True) if column < 0]
        if absent:
            msg = (
                f"{where} lacks {len(absent)} of the {len(genes)} genes, {absent[:5]}.{meant(absent[0], columns)} Its columns "
                "must be named like the genes of the screen; predict all of them, or train on those that it has."
            )
            raise KeyError(msg)
        table, columns = table.iloc[:, found], columns[found]
    return pd.DataFrame(_numbers(table, where), index=[rule.clean(name) for name in index], columns=columns)


def _check_unique(keys: list[Any], names: list[str], has: str, what: str) -> None:
    seen: dict[Any, str] = {}
    for key, name in zip(keys, names, strict=True):
        if key in seen:
            msg = f"{has} {what} that mean the same, {seen[key]!r} and {name!r}; keep one of them."
            raise ValueError(msg)
        seen[key] = name


def _numbers(table: pd.DataFrame, where: str) -> np.ndarray:
    kinds = {kind.kind for kind in table.dtypes if isinstance(kind, np.dtype)}
    if "b" in kinds or "c" in kinds:
        msg = f"{where} must hold numbers, got {sorted({str(kind) for kind in table.dtypes})}."
        raise ValueError(msg)
    values = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    unfit = np.argwhere(~np.isfinite(values))
    if len(unfit):
        row, column = unfit[0]
        first = table.iloc[row, column]
        first = float(first) if isinstance(first, float) else first  # numpy's have another `repr`
        msg = (
            f"{where} must hold finite numbers, but {len(unfit)} are none, the first {first!r} of "
            f"{table.index[row]!r} in gene {table.columns[column]!r}. Fill them, or leave the row out."
        )
        raise ValueError(msg)
    return values
