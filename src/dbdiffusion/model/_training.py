"""Training of the latent diffusion: its data, its Lightning plan, and the runner that merges histories."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from scvi.train import TrainRunner
from sklearn.linear_model import RidgeCV
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

if TYPE_CHECKING:
    from dbdiffusion.diffusion import LatentDiffusion

DIFFUSION_STEPS = 1000
STEPS_PER_AVERAGE = 8  # moving all weights costs as much as a twentieth of a step
PREFIX = "diffusion_"


@dataclass(frozen=True)
class Latents:
    """Posterior of every training cell, computed once: means and standard deviations (N, D), condition codes (N,)."""

    mean: Tensor
    sd: Tensor
    code: Tensor

    def subset(self, rows: np.ndarray) -> Latents:
        """The same for some of the cells."""
        index = torch.as_tensor(rows)
        return Latents(self.mean[index], self.sd[index], self.code[index])


def standardised(latents: Latents, diffusion: LatentDiffusion, conditions: Tensor) -> Latents:
    """What the network diffuses of every cell under its condition (codes, E), once and for all epochs."""
    device = diffusion.mean.device
    mean = diffusion.standardise(latents.mean.to(device), conditions.to(device)[latents.code.to(device)])
    return Latents(mean.to(latents.mean.device), latents.sd / diffusion.scale.to(latents.sd.device), latents.code)


class LatentDataModule(pl.LightningDataModule):
    """Minibatches of latents, sliced a batch at a time so that loading costs nothing beside the network.

    The loaders are plain ones, so that Lightning can spread them over processes.

    Parameters
    ----------
    latents
        All cells, :func:`standardised`.
    train_idx, val_idx
        Rows to train and to validate on.
    batch_size
        Of both, in each process.
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
        return DataLoader(slices, self.batch_size, shuffle=shuffle, drop_last=drop_last, collate_fn=_as_it_is)


class _Slices(Dataset):
    """Rows of latents; torch's loader asks for a whole minibatch at once."""

    def __init__(self, latents: Latents, rows: np.ndarray) -> None:
        self._latents, self._rows = latents, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, positions: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        batch = self._latents.subset(self._rows[positions])
        return batch.mean, batch.sd, batch.code


def _as_it_is(batch: Any) -> Any:
    return batch


def steps_per_epoch(data: LatentDataModule) -> int:
    """Optimiser steps of an epoch."""
    return max(1, data.n_train // data.batch_size)


def epochs_for(data: LatentDataModule) -> int:
    """Epochs that make about 1,000 optimiser steps."""
    return max(1, round(DIFFUSION_STEPS / steps_per_epoch(data)))


class DiffusionPlan(pl.LightningModule):
    """Lightning plan of a latent diffusion: AdamW, warm-up then cosine decay, moving average of the weights.

    Parameters
    ----------
    diffusion
        To train; its linear part is fitted.
    conditions
        (codes, E) embedding of every condition code.
    max_steps
        Optimiser steps in all, or fewer if the trainer will take fewer (several processes); the learning rate ends at zero.
    lr, weight_decay
        Of AdamW.
    condition_dropout
        Share of cells shown the null condition.
    ema_decay
        Of the moving average; smaller at the start, so that early weights are forgotten.
    module
        The model's module, which checkpoints of scvi look for.
    """

    conditions: Tensor

    def __init__(
        self,
        diffusion: LatentDiffusion,
        conditions: Tensor,
        max_steps: int,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
        condition_dropout: float = 0.1,
        ema_decay: float = 0.998,
        module: torch.nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= condition_dropout < 1:
            msg = f"`condition_dropout` must lie in [0, 1), got {condition_dropout!r}."
            raise ValueError(msg)
        self.module = module if module is not None else diffusion
        self.diffusion = diffusion
        self._losses: list[Tensor] = []
        self._decay = 1.0
        self.register_buffer("conditions", diffusion.scale_condition(conditions.to(diffusion.origin.device)))
        self.max_steps, self.lr, self.weight_decay = max_steps, lr, weight_decay
        self.condition_dropout, self.ema_decay = condition_dropout, ema_decay

    def setup(self, stage: str) -> None:
        """Freeze all but the denoiser in training: distributed strategies wait for the gradient of every free parameter."""
        del stage
        self.module.requires_grad_(requires_grad=False)
        self.diffusion.denoiser.requires_grad_(requires_grad=True)

    def on_train_start(self) -> None:
        """Let every process draw noise of its own; Lightning seeds them all alike."""
        if self.trainer.world_size > 1:
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def training_step(self, batch: tuple[Tensor, Tensor, Tensor], _index: int) -> Tensor:
        """One minibatch: a fresh draw from every cell's posterior."""
        loss = self._loss(batch, self.condition_dropout)
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, Tensor], _index: int) -> None:
        """Loss of the conditional denoiser on held-out cells."""
        loss = self._loss(batch, 0.0)
        self.log("validation_loss", loss, on_epoch=True, prog_bar=True, batch_size=len(batch[0]), sync_dist=True)
        # stage one logs a `validation_loss` too; a tuner over both stages needs a name of its own
        self.log(PREFIX + "validation_loss", loss, on_epoch=True, batch_size=len(batch[0]), sync_dist=True)

    def on_train_epoch_end(self) -> None:
        """Log the mean loss and stop if it is not finite; once an epoch, since doing so every step would slow it."""
        self._move_average()
        loss = torch.stack(self._losses).mean()
        self._losses.clear()
        self.log("train_loss", loss, prog_bar=True, sync_dist=True)
        if not torch.isfinite(loss):
            msg = f"The diffusion loss became {loss.item()} in epoch {self.current_epoch}. Lower `lr`, or check the latents."
            raise FloatingPointError(msg)

    def on_train_batch_end(self, *_args: Any) -> None:
        """Move the averaged weights, every few steps by as much as in all of them."""
        self._decay *= min(self.ema_decay, (1 + self.global_step) / (10 + self.global_step))
        if self.global_step % STEPS_PER_AVERAGE == 0:
            self._move_average()

    def on_validation_start(self) -> None:
        """Let the average have all steps so far: checkpoints are written next."""
        self._move_average()

    def configure_optimizers(self) -> Any:
        """AdamW with a learning rate per step."""
        parameters = [p for p in self.diffusion.denoiser.parameters() if p.requires_grad]
        self.max_steps = int(min(self.max_steps, self.trainer.estimated_stepping_batches))
        fused = self.device.type in ("cpu", "cuda")  # many small weights: a loop over them costs as much as a backward pass
        optimizer = torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=fused)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _move_average(self) -> None:
        self.diffusion.update_average(self._decay)
        self._decay = 1.0

    def _learning_rate(self, step: int) -> float:
        warmup = max(1, min(100, self.max_steps // 10))
        done = min(1.0, step / max(1, self.max_steps))
        return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * done))

    def _loss(self, batch: tuple[Tensor, Tensor, Tensor], condition_dropout: float) -> Tensor:
        mean, sd, code = batch
        x = torch.addcmul(mean, sd, torch.randn_like(sd))
        return self.diffusion.denoiser.loss(x, self.conditions[code], condition_dropout)


class DiffusionTrainRunner(TrainRunner):
    """scvi's runner for stage two: its metrics join the history under the prefix ``diffusion_``."""

    def _update_history(self) -> None:
        before = dict(self.model.history_ or {})
        was_trained, self.model.is_trained_ = self.model.is_trained_, False
        try:
            super()._update_history()
        finally:
            new, self.model.is_trained_ = self.model.history_ or {}, was_trained
            self.model.history_ = {**before, **_appended(before, new)}


def _appended(before: dict[str, pd.DataFrame], new: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    merged = {}
    for key, frame in new.items():
        name = key if key.startswith(PREFIX) else PREFIX + key
        frame = frame.rename(columns={key: name})
        if name in before:
            frame.index = np.arange(len(before[name]), len(before[name]) + len(frame))
            frame.index.name = before[name].index.name
            frame = pd.concat([before[name], frame])
        merged[name] = frame
    return merged


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
