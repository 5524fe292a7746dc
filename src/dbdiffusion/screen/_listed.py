"""Names, whatever a user gives them in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd


def listed_names(given: Any, argument: str = "targets") -> list[str]:
    """Names in the order given, whatever holds them: text, a list, an array, a Series, an index, a generator.

    Parameters
    ----------
    given
        By the user.
    argument
        That it was given as, for the message.

    Raises
    ------
    ValueError
        Unless they are names, at least one.

    Examples
    --------
    >>> listed_names("A"), listed_names(np.array(["B", "A"])), listed_names({"B", "A"})
    (['A'], ['B', 'A'], ['A', 'B'])
    """
    if isinstance(given, np.ndarray) and given.ndim == 0:
        given = given.item()
    listed = [given] if isinstance(given, str) else given
    names = list(listed) if isinstance(listed, Iterable) and not isinstance(listed, bytes | Mapping | pd.DataFrame) else []
    if not names or not all(isinstance(name, str) for name in names):
        msg = f"`{argument}` must be the name of a perturbation or a list of names, at least one, got {_shown(given)}."
        raise ValueError(msg)
    names = [str(name) for name in names]  # numpy's strings have another `repr`
    return sorted(names) if isinstance(given, set | frozenset) else names


def one_name(given: Any, argument: str = "name") -> str:
    """The name of one perturbation.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> one_name(np.str_("A"))
    'A'
    """
    if isinstance(given, np.ndarray) and given.ndim == 0:
        given = given.item()
    if not isinstance(given, str):
        msg = f"`{argument}` must be the name of a perturbation, got {_shown(given)}."
        raise ValueError(msg)
    return str(given)


def _shown(given: Any, most: int = 200) -> str:
    text = repr(given)
    return text if len(text) <= most else f"{text[:most]}…"
