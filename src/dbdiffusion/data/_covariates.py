"""Checks of the arguments of a set-up and of the columns they name."""

from __future__ import annotations

from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion.screen import meant

if TYPE_CHECKING:
    from collections.abc import Mapping

_LISTS = ("categorical_covariate_keys", "continuous_covariate_keys")
_NUMBERS = ("size_factor_key", "continuous_covariate_keys")


def check_texts(optional: Mapping[str, Any], **required: Any) -> None:
    """Raise unless arguments are text; those in ``optional`` may be None, and a list of columns must be one.

    Raises
    ------
    TypeError
        Otherwise.

    Examples
    --------
    >>> check_texts({"layer": None}, perturbation_key="perturbation")
    >>> check_texts({}, perturbation_key=3)
    Traceback (most recent call last):
    TypeError: `perturbation_key` must be text, got 3 (int).
    """
    for name, value in required.items():
        if not isinstance(value, str):
            msg = f"`{name}` must be text, got {value!r} ({type(value).__name__})."
            raise TypeError(msg)
    for name, value in optional.items():
        is_list = name in _LISTS
        texts = list(value) if is_list and isinstance(value, list | tuple) else [value]
        if value is not None and (not all(isinstance(text, str) for text in texts) or (is_list and isinstance(value, str))):
            kind = "a list of columns" if is_list else "text"
            msg = f"`{name}` must be {kind} or None, got {value!r} ({type(value).__name__})."
            raise TypeError(msg)


def column_of(obs: pd.DataFrame, argument: str, column: str) -> pd.Series:
    """The column that an argument names.

    Raises
    ------
    KeyError
        If it is missing; close names are suggested.
    ValueError
        If it is there more than once.

    Examples
    --------
    >>> column_of(adata.obs, "batch_key", "batch").nunique()
    2
    >>> column_of(adata.obs, "batch_key", "bach")
    Traceback (most recent call last):
    KeyError: ...
    """
    if column not in obs:
        known = sorted(str(name) for name in obs.columns if not str(name).startswith("_scvi"))
        msg = f"`{argument}` {column!r} is not in adata.obs, which has {known}.{meant(column, known)}"
        raise KeyError(msg)
    if (obs.columns == column).sum() > 1:
        msg = f"`{argument}` {column!r} is in adata.obs more than once; keep one column of that name."
        raise ValueError(msg)
    return obs[column]


def check_columns(obs: pd.DataFrame, argument: str, columns: str | list[str] | None) -> None:
    """Raise unless the columns that an argument names are there and can be used.

    Raises
    ------
    KeyError
        If a column is missing; close names are suggested.
    ValueError
        If it is there more than once; on missing values; on values that are no finite numbers where numbers are needed; on
        size factors not above 0.

    Examples
    --------
    >>> import pandas as pd
    >>> check_columns(pd.DataFrame({"batch": ["a", None]}), "batch_key", "batch")
    Traceback (most recent call last):
    ValueError: obs['batch'] (`batch_key`) has missing values. Name them, or drop those cells.
    """
    for column in [columns] if isinstance(columns, str) else columns or []:
        values = column_of(obs, argument, column)
        if argument in _NUMBERS:
            _check_numbers(values, argument, column)
        else:
            _check_categories(values, argument, column)
        if values.isna().any():
            msg = f"obs[{column!r}] (`{argument}`) has missing values. Name them, or drop those cells."
            raise ValueError(msg)


def _check_categories(values: pd.Series, argument: str, column: str) -> None:
    """Categories are sorted and written as text, so they must be text, or numbers."""
    kinds = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values
    if kinds.dtype != object and (pd.api.types.is_numeric_dtype(kinds.dtype) or pd.api.types.is_string_dtype(kinds.dtype)):
        return
    types = {type(value) for value in kinds.dropna()} if kinds.dtype == object else {kinds.dtype.type}
    numbers = [issubclass(one, Number | np.bool_) and not issubclass(one, np.timedelta64) for one in types]
    if all(issubclass(one, str) for one in types) or all(numbers):
        return
    msg = (
        f"obs[{column!r}] (`{argument}`) must hold text, or numbers, got {sorted(one.__name__ for one in types)}. Make it "
        f"text: `adata.obs[{column!r}] = adata.obs[{column!r}].astype(str)`."
    )
    raise ValueError(msg)


def _check_numbers(values: pd.Series, argument: str, column: str) -> None:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if not pd.api.types.is_numeric_dtype(values.dtype) or not np.isfinite(numbers).all():
        msg = f"obs[{column!r}] (`{argument}`) must hold finite numbers, got some that are missing, infinite or text."
        raise ValueError(msg)
    if argument == "size_factor_key" and (numbers <= 0).any():
        msg = f"obs[{column!r}] (`{argument}`) must be above 0 for every cell: drop the others, they have no counts."
        raise ValueError(msg)


def check_contexts(contexts: pd.Series, perturbations: pd.Series, context_key: str, control: str) -> None:
    """Raise unless every context has at least two control cells.

    Parameters
    ----------
    contexts, perturbations
        Of the same cells in the same order; a MuData may keep them in different modalities. Perturbations by their one name.
    context_key, control
        As set up, for the message and to tell control cells.

    Raises
    ------
    ValueError
        Otherwise; effects are contrasts with control inside a context.

    Examples
    --------
    >>> import pandas as pd
    >>> day, name = pd.Series(["2", "2", "5"]), pd.Series(["control", "control", "MYC"])
    >>> check_contexts(day, name, "day", "control")
    Traceback (most recent call last):
    ValueError: Every context of `context_key` 'day' needs at least 2 cells of control 'control', but ['5'] have fewer...
    """
    is_control = (perturbations.astype(str) == control).to_numpy()
    contexts = contexts.astype(str)
    sizes = contexts[is_control].value_counts().reindex(contexts.unique(), fill_value=0)
    lacking = [name for name, size in sizes.items() if size < 2]
    if lacking:
        msg = (
            f"Every context of `context_key` {context_key!r} needs at least 2 cells of control {control!r}, but "
            f"{lacking[:5]!r} have fewer ({sizes[lacking].tolist()[:5]}). Drop their cells, or merge them with "
            "contexts they resemble."
        )
        raise ValueError(msg)
