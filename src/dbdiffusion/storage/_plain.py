"""Nested Python values as JSON, their numbers apart: what a model's attributes need and no more; reading runs no code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping

NUMBERS = "biuf"  # kinds of arrays that are kept as arrays


def to_plain(value: Any, arrays: dict[str, np.ndarray], where: str = "value") -> Any:
    """A value as JSON; numeric arrays go into ``arrays`` and leave their key behind.

    Parameters
    ----------
    value
        Of None, bool, numbers, strings, lists, tuples, dictionaries with string keys, arrays, indices and frames.
    arrays
        Filled.
    where
        Path of the value, the key of its array.

    Raises
    ------
    TypeError
        For anything else.

    Examples
    --------
    >>> arrays = {}
    >>> from_plain(to_plain({"a": (1, np.arange(3))}, arrays), arrays)
    {'a': (1, array([0, 1, 2]))}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [to_plain(part, arrays, f"{where}.{i}") for i, part in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": _plain_items(value, arrays, where)}
    if isinstance(value, pd.DataFrame):
        columns = [to_plain(value.iloc[:, i].to_numpy(), arrays, f"{where}.{i}") for i in range(value.shape[1])]
        axes = {name: to_plain(axis.to_numpy(), arrays, f"{where}.{name}") for name, axis in _axes(value).items()}
        return {"frame": {"columns": columns, **axes, "names": [_name_of(axis) for axis in _axes(value).values()]}}
    if isinstance(value, pd.Index | pd.api.extensions.ExtensionArray):
        value = np.asarray(value)
    if isinstance(value, np.ndarray):
        return _plain_array(value, arrays, where)
    msg = f"{where!r} is a {type(value).__name__}, which cannot be written as JSON."
    raise TypeError(msg)


def from_plain(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Inverse of :func:`to_plain`.

    Raises
    ------
    ValueError
        If it was not made by it.

    Examples
    --------
    >>> from_plain({"tuple": [1, {"list": ["a"]}]}, {})
    (1, ['a'])
    >>> from_plain({"set": [1]}, {})
    Traceback (most recent call last):
    ValueError: ...
    """
    try:
        return _from_plain(value, arrays)
    except (KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        msg = f"The values are not as they were written: {type(error).__name__}: {error}."
        raise ValueError(msg) from error


def _from_plain(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    if len(value) != 1:
        msg = f"Expected one kind of value, got {sorted(value)[:3]}."
        raise ValueError(msg)
    ((kind, content),) = value.items()
    if kind in ("list", "tuple"):
        parts = [_from_plain(part, arrays) for part in content]
        return parts if kind == "list" else tuple(parts)
    if kind == "dict":
        return {name: _from_plain(part, arrays) for name, part in content.items()}
    if kind == "array":
        return arrays[content]
    if kind == "strings":
        return np.array(content["values"], dtype=object if content["object"] else str).reshape(content["shape"])
    if kind == "frame":
        return _frame(content, arrays)
    msg = f"Unknown kind of value {kind!r}; was the file written by a later version?"
    raise ValueError(msg)


def _plain_items(value: dict, arrays: dict[str, np.ndarray], where: str) -> dict[str, Any]:
    odd = [key for key in value if not isinstance(key, str)]
    if odd:
        msg = f"{where!r} has the key {odd[0]!r}, but only strings can be keys in JSON."
        raise TypeError(msg)
    return {key: to_plain(part, arrays, f"{where}.{key}") for key, part in value.items()}


def _plain_array(value: np.ndarray, arrays: dict[str, np.ndarray], where: str) -> dict[str, Any]:
    if value.dtype.kind in NUMBERS:
        arrays[where] = value
        return {"array": where}
    cells = [cell.item() if isinstance(cell, np.generic) else cell for cell in value.ravel().tolist()]
    odd = [cell for cell in cells if not (cell is None or isinstance(cell, bool | int | float | str))]
    if odd:
        msg = f"{where!r} holds a {type(odd[0]).__name__}, which cannot be written as JSON."
        raise TypeError(msg)
    return {"strings": {"values": cells, "shape": list(value.shape), "object": value.dtype.kind == "O"}}


def _axes(frame: pd.DataFrame) -> dict[str, pd.Index]:
    return {"header": frame.columns, "index": frame.index}


def _name_of(axis: pd.Index) -> str | None:
    return None if axis.name is None else str(axis.name)


def _frame(content: dict[str, Any], arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    header, index = (_from_plain(content[name], arrays) for name in ("header", "index"))
    columns = {i: _from_plain(column, arrays) for i, column in enumerate(content["columns"])}
    frame = pd.DataFrame(columns, index=pd.Index(index, name=content["names"][1]))
    return frame.set_axis(pd.Index(header, name=content["names"][0]), axis=1)
