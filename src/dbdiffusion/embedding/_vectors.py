"""A user's own vectors of perturbations or genes, as evidence of where perturbations lie."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd


class OwnVectors:
    """Vectors by name, the parts of a combination in any order.

    Parameters
    ----------
    table
        Index = names, columns = dimensions; None means that there are no vectors.
    parts
        Of a name.

    Examples
    --------
    >>> import pandas as pd
    >>> vectors = OwnVectors(pd.DataFrame(np.eye(2), index=["A", "B+A"]), lambda name: tuple(name.split("+")))
    >>> vectors.row("A+B"), vectors.row("B")
    (1, None)
    """

    def __init__(self, table: pd.DataFrame | None, parts: Callable[[str], tuple[str, ...]]) -> None:
        self._table, self._parts = table, parts

    @property
    def names(self) -> list[str]:
        """Of all vectors."""
        return [] if self._table is None else [str(name) for name in self._table.index]

    def row(self, name: str) -> int | None:
        """Row of a name; None if it has no vector."""
        return self._rows.get(tuple(sorted(self._parts(name))))

    @cached_property
    def evidence(self) -> np.ndarray:
        """Vectors (n, R), columns standardised, so that all of them weigh the same.

        Raises
        ------
        ValueError
            If there are none.
        """
        if self._table is None:
            msg = "This needs your own vectors: name them with `embedding_key` or `add_perturbations`."
            raise ValueError(msg)
        values = self._table.to_numpy(dtype=float)
        spread = values.std(axis=0)
        scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
        return scaled / np.sqrt(max(1, scaled.shape[1]))

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], int]:
        return {tuple(sorted(self._parts(name))): row for row, name in enumerate(self.names)}
