"""Control cells in two halves, so that a prediction and what it is compared with share no error of the control mean."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterator

N_SPLITS = 6  # with one, all comparisons share one chance (a null screen with one noise factor: lists at 10 % wrong in .225)


@dataclass(frozen=True)
class ControlHalves:
    """How far the means of random halves of the control cells lie from the control mean, batch by batch.

    Parameters
    ----------
    first, second
        (splits, batches, G) mean of all control cells of the batch minus that of one half, and of the other half.
    weight
        (P, batches) of the batches in the contrast of every perturbation.

    Examples
    --------
    One split of one batch; the halves lie on either side of the control mean:

    >>> half = np.full((1, 1, 2), 0.1)
    >>> halves = ControlHalves(half, -half, np.ones((3, 1)))
    >>> [float(of_mean[0]) for of_mean, of_each in halves.shifts()]
    [0.1, -0.1]
    """

    first: np.ndarray
    second: np.ndarray
    weight: np.ndarray

    def subset(self, rows: np.ndarray) -> Self:
        """The same for some of the perturbations."""
        return type(self)(self.first, self.second, self.weight[rows])

    def joined(self, other: ControlHalves) -> Self:
        """These perturbations, then those of another screen, whose control cells are others."""
        halves = {name: np.concatenate([getattr(self, name), getattr(other, name)], axis=1) for name in ("first", "second")}
        n, n_batches = self.weight.shape
        weight = np.zeros((n + len(other.weight), n_batches + other.weight.shape[1]))
        weight[:n, :n_batches], weight[n:, n_batches:] = self.weight, other.weight
        return type(self)(**halves, weight=weight)

    def shifts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For every split, both ways: what a mean of these perturbations' effects (G,) and each of them (P, G) change by.

        The former is contrasted with one half of the control cells, the latter with the other.
        """
        mean = self.weight.mean(axis=0)
        for one, other in ((self.first, self.second), (self.second, self.first)):
            for mine, others in zip(one, other, strict=True):
                yield mean @ mine, self.weight @ others

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def control_halves(values: sp.csr_matrix, batch: np.ndarray, weight: np.ndarray, seed: int = 0) -> ControlHalves | None:
    """Halve control cells at random inside every batch, six times.

    Parameters
    ----------
    values
        (N, G) log1p CP10K of control cells.
    batch
        (N,) codes, below the number of columns of ``weight``.
    weight
        (P, batches) of the batches in every contrast.
    seed
        Of the splits.

    Returns
    -------
    ControlHalves or None
        None where a batch that counts has fewer than two control cells: they cannot be halved.

    Examples
    --------
    >>> values = sp.csr_matrix(np.arange(8.0).reshape(4, 2))
    >>> halves = control_halves(values, np.zeros(4, dtype=int), np.ones((3, 1)))
    >>> halves.first.shape, bool(np.allclose(halves.first, -halves.second))
    ((6, 1, 2), True)
    """
    n_batches = weight.shape[1]
    size = np.bincount(batch, minlength=n_batches)
    if (size[(weight > 0).any(axis=0)] < 2).any():
        return None
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(batch == one) for one in range(n_batches)]
    halves: list[list[np.ndarray]] = [[], []]
    whole = _means(values, batch, n_batches)
    for _ in range(N_SPLITS):
        side = np.zeros(len(batch), dtype=int)
        for inside in rows:
            side[rng.permutation(inside)[: len(inside) // 2]] = 1
        for kept, half in zip((0, 1), halves, strict=True):
            chosen = side == kept
            half.append(whole - _means(values[chosen], batch[chosen], n_batches))
    first, second = (np.stack(half).astype(np.float32).astype(float) for half in halves)
    return ControlHalves(first, second, weight)


def _means(values: sp.csr_matrix, batch: np.ndarray, n_batches: int) -> np.ndarray:
    """(batches, G), zero for a batch without cells."""
    member = sp.csr_matrix((np.ones(len(batch)), (batch, np.arange(len(batch)))), shape=(n_batches, len(batch)))
    size = np.bincount(batch, minlength=n_batches)
    return (member @ values).toarray() / np.maximum(size, 1)[:, None]
