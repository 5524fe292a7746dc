"""Methods of a model that has contexts: answer for each, or ask for one."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

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
        is_one = isinstance(context, str) or not isinstance(context, Iterable)  # numbers name contexts too
        names = self.contexts if context is None else [str(name) for name in ([context] if is_one else context)]
        tables = [method(self.in_context(name), *args, **options).assign(context=name) for name in names]
        table = pd.concat(tables, ignore_index=True)
        table.attrs = {**tables[0].attrs, "context": list(names), "weights": {
            name: one.attrs.get("weights", {}) for name, one in zip(names, tables, strict=True)
        }}  # fmt: skip
        return table

    return answer


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
