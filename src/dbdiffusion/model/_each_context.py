"""Methods of a model that has contexts: answer for each, or ask for one."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd


def in_each_context(method: Any) -> Any:
    """Let a method that returns a table answer for every context, or those named, with a column ``context``.

    Parameters
    ----------
    method
        Has a keyword ``context``, which models without contexts refuse.
    """

    @functools.wraps(method)
    def answer(self: Any, *args: Any, context: str | list[str] | None = None, **options: Any) -> pd.DataFrame:
        if context is None and not self.contexts:
            return method(self, *args, **options)
        args = tuple(list(value) if isinstance(value, Iterator) else value for value in args)  # a generator gives names once
        options = {name: list(value) if isinstance(value, Iterator) else value for name, value in options.items()}
        names = self.contexts if context is None else _context_names(context)
        tables = [method(self.in_context(name), *args, **options).assign(context=name) for name in names]
        table = pd.concat(tables, ignore_index=True)
        of_each = {
            several: {name: one.attrs.get(single, {}) for name, one in zip(names, tables, strict=True)}
            for several, single in {"weights": "weights", "rectifier_means": "rectifier_mean"}.items()
        }
        table.attrs = {**tables[0].attrs, "context": list(names), **of_each}
        return table

    return answer


def context_name(context: Any) -> Any:
    """The name of a context: plain text, also of a number, as a time may be.

    Examples
    --------
    >>> import numpy as np
    >>> context_name(np.int64(3)), context_name(np.str_("late"))
    ('3', 'late')
    """
    return str(context) if isinstance(context, str | int | float | np.generic) else context


def _context_names(context: Any) -> list[str]:
    alone = isinstance(context_name(context), str)
    names = [context] if alone else list(context) if isinstance(context, Iterable) else []
    names = [context_name(name) for name in names]
    if not names or not all(isinstance(name, str) for name in names):
        msg = f"`context` must be the name of a context or a list of names, at least one, got {context!r}."
        raise ValueError(msg)
    return names


def asks_for_context(method: Any) -> Any:
    """Let a method that has no answer for several contexts at once say how to ask one."""

    @functools.wraps(method)
    def answer(self: Any, *args: Any, **options: Any) -> Any:
        if self.contexts:
            msg = (
                f"This model has contexts, {list(self.contexts[:10])}, and `{method.__name__}` answers for one at a time: "
                f"`model.in_context({self.contexts[0]!r}).{method.__name__}(...)`."
            )
            raise ValueError(msg)
        return method(self, *args, **options)

    return answer
