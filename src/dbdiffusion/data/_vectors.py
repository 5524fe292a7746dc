"""A user's own vectors of perturbations or genes, checked, and aligned with those that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.screen import NameRule


def check_vectors(table: object, where: str, rule: NameRule | None = None) -> pd.DataFrame:
    """A user's vectors as a float64 frame, or a worded error.

    Parameters
    ----------
    table
        What the user gave.
    where
        It was given, for the messages.
    rule
        How names are read; None takes them as they are.

    Raises
    ------
    TypeError
        If it is no DataFrame.
    ValueError
        On an empty table, names or columns that are there twice, or values that are not finite numbers.

    Examples
    --------
    >>> check_vectors(pd.DataFrame({"v1": [1, 2]}, index=["A", "A"]), "uns['vectors']")
    Traceback (most recent call last):
    ValueError: uns['vectors'] has ['A', 'A'] more than once in its index, or names that mean the same; keep one of each.
    """
    if not isinstance(table, pd.DataFrame):
        msg = f"{where} must be a DataFrame (index = perturbations or genes, columns = dimensions), got {type(table).__name__}."
        raise TypeError(msg)
    if table.shape[0] == 0 or table.shape[1] == 0:
        msg = f"{where} is empty (shape {table.shape}); it needs a row per perturbation or gene and a column per dimension."
        raise ValueError(msg)
    index, columns = table.index.astype(str), pd.Index([str(column) for column in table.columns], dtype=object)
    keys = pd.Index([str(name if rule is None else rule.key(name)) for name in index])
    for labels, what in ((keys, index), (columns, columns)):
        if labels.has_duplicates:
            repeated = list(what[labels.duplicated(keep=False)][:3])
            place = "columns" if what is columns else "index"
            msg = f"{where} has {repeated!r} more than once in its {place}, or names that mean the same; keep one of each."
            raise ValueError(msg)
    numeric = table.set_axis(columns, axis=1).apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    bad = ~np.isfinite(numeric).all(axis=1)
    if bad.any():
        msg = f"{where} must hold finite numbers only, but {list(table.index[bad][:3])!r} has others. Fill or drop those rows."
        raise ValueError(msg)
    return pd.DataFrame(numeric, index=index if rule is None else [rule.clean(name) for name in index], columns=columns)


def aligned_vectors(brought: pd.DataFrame, columns: Sequence[str] | None, n_columns: int, where: str) -> pd.DataFrame:
    """Further vectors with the columns of those that are known, in their order.

    Parameters
    ----------
    brought
        As :func:`check_vectors` gives them.
    columns
        Known names; None where they were not stored, as before version 0.2: then columns must be as many.
    n_columns
        How many are known.
    where
        They were given, for the message.

    Raises
    ------
    ValueError
        If they are others.

    Examples
    --------
    >>> brought = pd.DataFrame([[1.0, 2.0]], index=["A"], columns=["y", "x"])
    >>> aligned_vectors(brought, ["x", "y"], 2, "here").to_numpy()
    array([[2., 1.]])
    """
    if columns is None and brought.shape[1] == n_columns:
        return brought
    if columns is None or set(columns) != set(brought.columns):
        names = "" if columns is None else f" {list(columns[:5])}"
        msg = (
            f"{where} must have the {n_columns} columns of the registered table{names}, got {brought.shape[1]}, "
            f"{list(brought.columns[:5])}. Columns are told by their names."
        )
        raise ValueError(msg)
    return brought[list(columns)]
