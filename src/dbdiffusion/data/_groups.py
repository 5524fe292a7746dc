"""Which cells are contrasted with which, and which take no part: known from the set-up alone, before any training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from dbdiffusion._keys import REGISTRY
from dbdiffusion._words import say
from dbdiffusion.data._fields import PerturbationField

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbdiffusion.data._manager import ScreenManager

MOST_SHOWN = 3
FEW_CONTROL = 20  # cells, of which users are told


def contexts_of(registry: dict[str, Any]) -> list[str]:
    """Names of the registered contexts, none without a ``context_key``.

    Examples
    --------
    >>> contexts_of(model.adata_manager.registry)
    []
    """
    field = registry.get("field_registries", {}).get(REGISTRY.CONTEXT, {})
    return [str(name) for name in field.get("state_registry", {}).get("categorical_mapping", ())]


class CellGroups:
    """Perturbation, batch and context of every registered cell.

    A stratum is a batch inside a context: effects are contrasts with the control cells of the same stratum. Cells without
    counts say nothing, and cells of a stratum without control cells have nothing to be compared with.

    Parameters
    ----------
    manager
        Of the registered cells.

    Examples
    --------
    >>> groups = CellGroups(model.adata_manager)
    >>> groups.control, groups.n_batches
    ('control', 2)
    >>> bool((groups.table()["n_cells_used"] <= groups.table()["n_cells"]).all())
    True
    """

    def __init__(self, manager: ScreenManager) -> None:
        state = manager.get_state_registry(REGISTRY.PERTURBATION)
        self.categories = [str(name) for name in state[PerturbationField.CATEGORICAL_MAPPING_KEY]]
        self.control = state[PerturbationField.CONTROL]
        self.separator = state[PerturbationField.SEPARATOR]
        self.codes = manager.get_from_registry(REGISTRY.PERTURBATION).ravel().astype(int)
        batch = manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY).ravel().astype(int)
        self.contexts = contexts_of(manager.registry)
        self.context = np.zeros_like(batch)
        if self.contexts:
            self.context = manager.get_from_registry(REGISTRY.CONTEXT).ravel().astype(int)
        self.n_batches = int(batch.max()) + 1
        self.strata = self.context * self.n_batches + batch
        self.n_strata = max(1, len(self.contexts)) * self.n_batches
        self.takes_part = np.ones(len(batch), dtype=bool) if manager.takes_part is None else manager.takes_part
        self._has_counts = self.takes_part if manager.totals is None else manager.totals > 0
        self._batches = manager.get_state_registry(REGISTRY_KEYS.BATCH_KEY)["categorical_mapping"]

    @property
    def control_code(self) -> int:
        """Code of control."""
        return self.categories.index(self.control)

    @property
    def groups(self) -> np.ndarray:
        """Group (N,) of every cell, strata running fastest; -1 for cells that take no part."""
        return np.where(self.takes_part, self.codes * self.n_strata + self.strata, -1)

    def strata_of(self, context: str | None) -> np.ndarray:
        """Strata of a context, or all."""
        if context is None:
            return np.arange(self.n_strata)
        return self.contexts.index(context) * self.n_batches + np.arange(self.n_batches)

    def table(self, context: str | None = None) -> pd.DataFrame:
        """Cells of every perturbation that has any in a context, or at all, and how many enter its effect."""
        shape = (len(self.categories), self.n_strata)
        groups = self.codes * self.n_strata + self.strata
        n_cells, n_counted = (
            np.bincount(some, minlength=shape[0] * shape[1]).reshape(shape)[:, self.strata_of(context)]
            for some in (groups, groups[self.takes_part])
        )
        used = np.where(n_counted[self.control_code] > 0, n_counted, 0).sum(axis=1)
        table = pd.DataFrame({"n_cells": n_cells.sum(axis=1), "n_cells_used": used}, index=self.categories)
        return table[(table["n_cells"] > 0) & (table.index != self.control)]

    def check(self) -> None:
        """Raise where a perturbation cannot be contrasted with control at all.

        Raises
        ------
        ValueError
            Then; the message says why.
        """
        contexts: list[str | None] = [*self.contexts] or [None]
        for context in contexts:
            where = "" if context is None else f" in context {context!r}"
            if not (self._counted(self.control_code, context) & self._has_counts).any():
                msg = f"No cell of control {self.control!r} has counts{where}; effects need such cells."
                raise ValueError(msg)
            table = self.table(context)
            lost = list(table.index[table["n_cells_used"] == 0])
            empty = [name for name in lost if not self._counted(self.categories.index(name), context).any()]
            if empty:
                msg = (
                    f"No cell of {empty[:MOST_SHOWN]!r} has counts{where}, so there is no effect to measure. Drop those cells."
                )
                raise ValueError(msg)
            if lost:
                msg = (
                    f"Effects are contrasts inside batches, but {lost[:MOST_SHOWN]!r} share no batch with control "
                    f"{self.control!r}{where}. Drop those cells, or set up without `batch_key`."
                )
                raise ValueError(msg)

    def say_what_is_lost(self) -> None:
        """Warn of cells that take no part in effects, with numbers."""
        for message in (*self._without_counts(), *self._without_control()):
            say(f"{message} `model.target_cells()` lists them by perturbation.")

    def say_few_control(self) -> None:
        """Warn of few control cells, since their error is in every effect."""
        contexts: list[str | None] = [*self.contexts] or [None]
        for context in contexts:
            n = int((self._counted(self.control_code, context) & self._has_counts).sum())
            if n < FEW_CONTROL:
                where = "" if context is None else f" in context {context!r}"
                say(
                    f"Only {n} cells of control {self.control!r} take part in effects{where}. Their error is in every "
                    "effect, so all intervals are wide. More control cells make every answer better."
                )

    def _without_counts(self) -> Iterator[str]:
        empty = np.flatnonzero(~self.takes_part)
        if len(empty):
            cells = np.bincount(self.codes[empty], minlength=len(self.categories))
            sizes = np.bincount(self.codes, minlength=len(self.categories))
            yield (
                f"{len(empty)} of {len(self.codes)} cells have no counts, so they take no part in effects: "
                f"{self._listed(pd.Series(cells, self.categories), pd.Series(sizes, self.categories))}."
            )

    def _without_control(self) -> Iterator[str]:
        counted = self.takes_part
        has_control = np.bincount(self.strata[counted & (self.codes == self.control_code)], minlength=self.n_strata) > 0
        alone = np.flatnonzero(counted & ~has_control[self.strata])
        if len(alone):
            cells = pd.Series(np.bincount(self.codes[alone], minlength=len(self.categories)), self.categories)
            sizes = pd.Series(np.bincount(self.codes[counted], minlength=len(self.categories)), self.categories)
            strata = pd.Series(self.strata[alone]).value_counts()
            shown = ", ".join(f"{self._name_of(code)} ({size} cells)" for code, size in strata[:MOST_SHOWN].items())
            yield (
                f"{len(alone)} of {len(self.codes)} cells lie in batches without control cells, {shown}"
                f"{_more(len(strata))}, so they take no part in effects: {self._listed(cells, sizes)}."
            )

    def _listed(self, lost: pd.Series, sizes: pd.Series) -> str:
        lost = lost[lost > 0].sort_values(ascending=False, kind="stable")
        shown = ", ".join(f"{name!r} loses {n} of {sizes[name]}" for name, n in lost[:MOST_SHOWN].items())
        return shown + _more(len(lost))

    def _name_of(self, stratum: int) -> str:
        batch = repr(str(self._batches[stratum % self.n_batches]))
        return f"{batch} of {self.contexts[stratum // self.n_batches]!r}" if self.contexts else batch

    def _counted(self, code: int, context: str | None) -> np.ndarray:
        return self.takes_part & (self.codes == code) & np.isin(self.strata, self.strata_of(context))


def _more(n: int) -> str:
    return f" and {n - MOST_SHOWN} more" if n > MOST_SHOWN else ""
