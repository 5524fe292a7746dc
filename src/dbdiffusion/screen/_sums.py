"""Sums of cells and of their products over all groups but some, without subtracting anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import scipy.sparse as sp

CHUNK = 4096  # cells that are dense at once
KEPT_BYTES = 2**31  # of products of single classes; above it they are multiplied again where they are needed


@dataclass
class Sums:
    """Numbers (B,), sums (B, G) and products (G, G) of cells, counted by batch.

    Parameters
    ----------
    n_cells
        (B,).
    total
        (B, G).
    product
        (G, G), over all batches.
    """

    n_cells: np.ndarray
    total: np.ndarray
    product: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """(B, G), zero for a batch without cells."""
        return self.total / np.maximum(self.n_cells, 1)[:, None]

    @property
    def variance(self) -> np.ndarray:
        """(G,) within batches."""
        used, n = self.n_cells > 0, max(self.n_cells.sum(), 1.0)
        return np.diagonal(self.product) / n - self.n_cells[used] @ self.mean[used] ** 2 / n

    def covariance(self) -> np.ndarray:
        """(G, G) within batches; a new array."""
        used = self.n_cells > 0  # a batch without cells has no part, not even as rounding
        mean, size, n = self.mean[used], self.n_cells[used], max(self.n_cells.sum(), 1.0)
        return (self.product - (mean.T * size) @ mean) / n

    def plus(self, other: Sums) -> Sums:
        """Sums of both."""
        return Sums(self.n_cells + other.n_cells, self.total + other.total, self.product + other.product)


def sums_without(
    values: sp.csr_matrix, batch: np.ndarray, group: np.ndarray, excluded: Sequence[Sequence[int]]
) -> Iterator[tuple[int, Sums]]:
    """For every set of groups its number, and the sums of all cells that are in none of them.

    Groups that the same sets leave out are a class, which is multiplied once. A sum is begun with what many sets keep and
    goes on where they part, so no cell that a set leaves out ever enters its sum.

    Parameters
    ----------
    values
        (N, G).
    batch, group
        (N,) codes.
    excluded
        Groups by set.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> ones = sp.csr_matrix(np.ones((5, 1)))
    >>> sets = sums_without(ones, np.zeros(5, dtype=int), np.array([0, 0, 1, 1, 2]), [(), (0,), (1, 2)])
    >>> [(i, float(sums.product[0, 0])) for i, sums in sets]
    [(0, 5.0), (1, 3.0), (2, 2.0)]
    """
    classes = _Classes(values, batch, group, excluded)
    nothing = Sums(*(np.zeros(shape) for shape in classes.shapes))
    yield from _parting(classes, list(range(len(excluded))), nothing, list(range(len(classes.left_out_by))))


def _parting(classes: _Classes, sets: list[int], sums: Sums, waiting: list[int]) -> Iterator[tuple[int, Sums]]:
    """Add the classes that all sets keep, then each half of the sets goes on by itself."""
    for one in waiting:
        if not classes.left_out_by[one].intersection(sets):
            sums = sums.plus(classes.sums(one))
    if len(sets) == 1:
        yield sets[0], sums
        return
    waiting = [one for one in waiting if classes.left_out_by[one].intersection(sets)]
    middle = len(sets) // 2
    for half in (sets[:middle], sets[middle:]):
        yield from _parting(classes, half, sums, waiting)


class _Classes:
    """Cells whose groups are left out by the same sets."""

    def __init__(self, values: sp.csr_matrix, batch: np.ndarray, group: np.ndarray, excluded: Sequence[Sequence[int]]) -> None:
        self._values, self._batch = values, batch
        n_batches = int(batch.max(initial=0)) + 1
        self.shapes = ((n_batches,), (n_batches, values.shape[1]), (values.shape[1], values.shape[1]))
        members = [set(map(int, groups)) for groups in excluded]
        signature = {
            int(one): frozenset(i for i, groups in enumerate(members) if int(one) in groups) for one in np.unique(group)
        }
        self.left_out_by = sorted(set(signature.values()), key=sorted)
        number = {one: i for i, one in enumerate(self.left_out_by)}
        of_cell = np.array([number[signature[int(one)]] for one in group], dtype=int)
        self._rows = [np.flatnonzero(of_cell == i) for i in range(len(self.left_out_by))]
        self._keeps = len(self._rows) * values.shape[1] ** 2 * 8 <= KEPT_BYTES
        self._known: dict[int, Sums] = {}

    def sums(self, one: int) -> Sums:
        """Of the cells of a class; kept if there is room."""
        if one in self._known:
            return self._known[one]
        sums = Sums(*(np.zeros(shape) for shape in self.shapes))
        for start in range(0, len(self._rows[one]), CHUNK):
            rows = self._rows[one][start : start + CHUNK]
            dense = self._values[rows].toarray()
            sums.product += dense.T @ dense
            np.add.at(sums.total, self._batch[rows], dense)
            sums.n_cells += np.bincount(self._batch[rows], minlength=self.shapes[0][0])
        if self._keeps and self.left_out_by[one]:
            self._known[one] = sums
        return sums
