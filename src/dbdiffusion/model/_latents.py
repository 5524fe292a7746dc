"""Latents of the training cells: what the diffusion takes from them once, and the minibatches it trains on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbdiffusion.diffusion import LatentDiffusion


@dataclass(frozen=True)
class Latents:
    """Posterior of every training cell, computed once: means and standard deviations (N, D), condition codes (N,).

    Examples
    --------
    >>> latents = Latents(torch.zeros(4, 2), torch.ones(4, 2), torch.tensor([0, 0, 1, 1]))
    >>> latents.subset(np.array([0, 3])).code
    tensor([0, 1])
    """

    mean: Tensor
    sd: Tensor
    code: Tensor

    def subset(self, rows: np.ndarray) -> Latents:
        """The same for some of the cells."""
        index = torch.as_tensor(rows)
        return Latents(self.mean.index_select(0, index), self.sd.index_select(0, index), self.code.index_select(0, index))


def fit_linear_part(diffusion: LatentDiffusion, latents: Latents, conditions: Tensor, origin: Tensor) -> None:
    """Fill the statistics of a latent diffusion from training cells.

    W is a ridge regression, weighted by cells, of the mean latent of every condition on its embedding; the remainder is
    standardised per dimension, posterior variance included.

    Parameters
    ----------
    diffusion
        Its buffers are filled.
    latents
        Training cells.
    conditions
        (codes, E).
    origin
        (E,) embedding of control.

    Examples
    --------
    Of a trained model it is fitted already; cells of a condition differ from those of control by W:

    >>> model.module.diffusion.linear.shape == (6, 5)
    True
    """
    codes = latents.code.numpy()
    z = latents.mean.numpy().astype(float)
    present, inverse, n_cells = np.unique(codes, return_inverse=True, return_counts=True)
    sums = np.zeros((len(present), z.shape[1]))
    np.add.at(sums, inverse, z)
    shifted = (conditions - origin).double().numpy()[present]
    rms = max(float(np.sqrt((shifted**2).mean())), 1e-8)
    ridge = RidgeCV(alphas=np.logspace(-4, 4, 17)).fit(shifted / rms, sums / n_cells[:, None], sample_weight=n_cells)
    linear = ridge.coef_.reshape(z.shape[1], -1).T / rms
    mean = np.broadcast_to(ridge.intercept_, z.shape[1:])
    remainder = z - mean - (shifted @ linear)[inverse]
    centre = remainder.mean(axis=0)
    variance = remainder.var(axis=0) + (latents.sd.numpy().astype(float) ** 2).mean(axis=0)
    diffusion.set_linear_part(
        mean=torch.as_tensor(mean + centre),
        scale=torch.as_tensor(np.sqrt(np.maximum(variance, 1e-12))),
        linear=torch.as_tensor(linear),
        origin=origin,
        condition_scale=torch.full_like(diffusion.condition_scale, rms),
        null_shift=torch.as_tensor((shifted @ linear)[inverse].mean(axis=0)),
    )


def standardised(latents: Latents, diffusion: LatentDiffusion, conditions: Tensor) -> Latents:
    """What the network diffuses of every cell under its condition (codes, E), once and for all epochs.

    Examples
    --------
    >>> import copy
    >>> latents = Latents(torch.randn(50, 5), torch.full((50, 5), 0.1), torch.zeros(50, dtype=torch.long))
    >>> diffusion = copy.deepcopy(model.module.diffusion)
    >>> fit_linear_part(diffusion, latents, torch.zeros(1, 6), torch.zeros(6))
    >>> remainder = standardised(latents, diffusion, torch.zeros(1, 6))
    >>> bool(remainder.mean.mean(dim=0).abs().max() < 1e-4)
    True
    """
    device = diffusion.mean.device
    mean = diffusion.standardise(latents.mean.to(device), conditions.to(device)[latents.code.to(device)])
    return Latents(mean.to(latents.mean.device), latents.sd / diffusion.scale.to(latents.sd.device), latents.code)


class LatentDataModule(pl.LightningDataModule):
    """Minibatches of latents, sliced a batch at a time so that loading costs nothing beside the network.

    Lightning spreads the loaders over processes: it builds their sampler again, as it would a plain ``BatchSampler``.

    Parameters
    ----------
    latents
        All cells, :func:`standardised`.
    train_idx, val_idx
        Rows to train and to validate on.
    batch_size
        Of both, in each process.

    Examples
    --------
    >>> latents = Latents(torch.zeros(10, 2), torch.ones(10, 2), torch.zeros(10, dtype=torch.long))
    >>> module = LatentDataModule(latents, np.arange(8), np.arange(8, 10), batch_size=4)
    >>> [len(mean) for mean, sd, code in module.train_dataloader()]
    [4, 4]
    """

    def __init__(self, latents: Latents, train_idx: np.ndarray, val_idx: np.ndarray, batch_size: int) -> None:
        super().__init__()
        self.latents, self.batch_size = latents, batch_size
        self.train_idx, self.val_idx = np.asarray(train_idx), np.asarray(val_idx)
        self.test_idx = np.empty(0, dtype=int)
        self.n_train, self.n_val = len(self.train_idx), len(self.val_idx)

    def train_dataloader(self) -> DataLoader:
        """Shuffled; an incomplete last batch is dropped unless it is the only one."""
        return self._loader(self.train_idx, shuffle=True)

    def val_dataloader(self) -> DataLoader | None:
        """In order; None without validation cells."""
        return self._loader(self.val_idx, shuffle=False) if self.n_val else None

    def _loader(self, rows: np.ndarray, *, shuffle: bool) -> DataLoader:
        n_processes = self.trainer.world_size if self.trainer is not None else 1
        drop_last = shuffle and len(rows) // n_processes >= self.batch_size
        slices = _Slices(self.latents, rows)
        sampler = _Shuffled(slices) if shuffle else SequentialSampler(slices)
        batches = _Batches(sampler, self.batch_size, drop_last)
        return DataLoader(slices, batch_sampler=batches, collate_fn=_as_it_is)


class _Shuffled(RandomSampler):
    """The same order as its parent gives from the same state of torch's generator, and all of it at once."""

    def __init__(self, data_source: Dataset) -> None:
        super().__init__(data_source)  # type: ignore[arg-type]

    def positions(self) -> np.ndarray:
        """A permutation of all rows."""
        generator = torch.Generator()
        generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
        return torch.randperm(len(self), generator=generator).numpy()


class _Batches(BatchSampler):
    """Positions of minibatches as arrays: lists of them would cost more than slicing the latents."""

    def __iter__(self) -> Iterator[np.ndarray]:  # type: ignore[override]
        sampler = self.sampler  # with several processes one of Lightning's
        positions = sampler.positions() if isinstance(sampler, _Shuffled) else np.fromiter(sampler, dtype=np.int64)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield positions[start : start + self.batch_size]


class _Slices(Dataset):
    """Rows of latents; torch's loader asks for a whole minibatch at once."""

    def __init__(self, latents: Latents, rows: np.ndarray) -> None:
        self._latents, self._rows = latents, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, positions: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        batch = self._latents.subset(self._rows[positions])
        return batch.mean, batch.sd, batch.code


def _as_it_is(batch: Any) -> Any:
    return batch


def steps_per_epoch(data: LatentDataModule) -> int:
    """Optimiser steps of an epoch."""
    return max(1, data.n_train // data.batch_size)
