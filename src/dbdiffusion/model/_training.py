"""Training of the latent diffusion: precision, latents, its Lightning plan, and the runner that merges histories."""

from __future__ import annotations

import contextlib
import inspect
import math
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.profilers import PassThroughProfiler
from scvi.train import TrainRunner
from sklearn.linear_model import RidgeCV
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler

from dbdiffusion._words import real_number, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from torch import nn

    from dbdiffusion.diffusion import LatentDiffusion


# Numbers of a training: whatever it computes in, the weights of the model have 32 bits.


@contextlib.contextmanager
def keeping_single_precision(module: nn.Module, precision: str | int | None) -> Iterator[None]:
    """Put the weights back to 32 bits after a training; Lightning leaves them as ``precision`` says.

    Parameters
    ----------
    module
        Trained in the block.
    precision
        Of the trainer.

    Raises
    ------
    ValueError
        For 16 bits throughout, which would round the weights for good.

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.Linear(2, 3)
    >>> with keeping_single_precision(module, "64-true"):
    ...     module = module.double()
    >>> module.weight.dtype
    torch.float32
    """
    if str(precision).endswith("16-true"):
        msg = (
            f"`precision` {precision!r} would round the weights for good; use '16-mixed' or 'bf16-mixed', which compute in "
            "16 bits and keep the weights in 32."
        )
        raise ValueError(msg)
    try:
        yield
    finally:
        module.float()


# Latents of the training cells: what the diffusion takes from them once, and the minibatches it trains on.


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


PREFIX = "diffusion_"


@dataclass(frozen=True)
class DiffusionRecipe:
    """How the latent diffusion is trained: what ``plan_kwargs`` may hold.

    Parameters
    ----------
    n_steps
        Optimiser steps, about, where no number of epochs is asked for.
    lr, weight_decay
        Of AdamW.
    n_warmup_steps
        In which the learning rate rises, at most a tenth of all; a cosine then takes it to zero.
    condition_dropout
        Share of cells shown the null condition.
    ema_decay
        Of the moving average of the weights; smaller at the start, so that early weights are forgotten.
    steps_per_average
        Steps at which the average moves by as much as in all of them: moving all weights costs a twentieth of a step.
    draws_latents
        Whether every epoch sees a fresh draw of each cell's posterior, or its mean.

    Examples
    --------
    >>> DiffusionRecipe.of({"lr": 1e-3}).condition_dropout
    0.1
    """

    n_steps: int = 1000
    lr: float = 2e-3
    weight_decay: float = 1e-2
    n_warmup_steps: int = 100
    condition_dropout: float = 0.1
    ema_decay: float = 0.998
    steps_per_average: int = 8
    draws_latents: bool = True

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_warmup_steps", "steps_per_average"):
            whole_number(name, getattr(self, name), 1)
        for name, most in {"lr": math.inf, "weight_decay": math.inf, "condition_dropout": 1, "ema_decay": 1}.items():
            real_number(name, getattr(self, name), 0, most)
        if self.condition_dropout == 1:
            msg = "`condition_dropout` must be below 1, got 1: no cell would show its condition."
            raise ValueError(msg)

    @classmethod
    def of(cls, options: Mapping[str, Any] | None) -> DiffusionRecipe:
        """Of ``plan_kwargs``.

        Raises
        ------
        ValueError
            For an option that there is not, or a value out of range.
        """
        options = dict(options or {})
        known = [field.name for field in fields(cls)]
        unknown = sorted(str(name) for name in options if name not in known)
        if unknown:
            msg = f"`plan_kwargs` of the diffusion may hold {', '.join(known)}; got {unknown!r}."
            raise ValueError(msg)
        return cls(**options)

    def epochs_for(self, data: LatentDataModule) -> int:
        """Epochs that make about ``n_steps`` optimiser steps."""
        return max(1, round(self.n_steps / steps_per_epoch(data)))


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
    recipe
        All else; the default one if left out.
    module
        The model's module, which checkpoints of scvi look for.

    Examples
    --------
    >>> import copy
    >>> plan = DiffusionPlan(copy.deepcopy(model.module.diffusion), torch.zeros(3, 6), max_steps=10)
    >>> plan.recipe.lr, plan.conditions.shape
    (0.002, torch.Size([3, 6]))
    """

    conditions: Tensor

    def __init__(
        self,
        diffusion: LatentDiffusion,
        conditions: Tensor,
        max_steps: int,
        recipe: DiffusionRecipe | None = None,
        module: torch.nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.module = module if module is not None else diffusion
        self.diffusion = diffusion
        self._losses: list[Tensor] = []
        self._decay = 1.0
        self.register_buffer("conditions", diffusion.scale_condition(conditions.to(diffusion.origin.device)))
        self.max_steps, self.recipe = max_steps, recipe or DiffusionRecipe()

    def __setattr__(self, name: str, value: Any) -> None:
        """As any module, but quick at the note that Lightning takes of every hook it calls, some fifty a step."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

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
        loss = self._loss(batch, self.recipe.condition_dropout)
        self._losses.append(loss.detach())
        return loss

    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]  # Lightning asks every step

    def transfer_batch_to_device(
        self, batch: tuple[Tensor, ...], device: torch.device, dataloader_idx: int
    ) -> tuple[Tensor, ...]:
        """As Lightning does, without a search for tensors inside of the minibatch."""
        del dataloader_idx
        non_blocking = device.type not in ("cpu", "mps")  # Lightning's choice too: on MPS copies may be read too early
        return tuple(tensor.to(device, non_blocking=non_blocking) for tensor in batch)

    def _call_batch_hook(self, hook_name: str, *args: Any) -> Any:
        """As Lightning does, without asking whose hook it is and taking its time: there are three a step."""
        return getattr(self, hook_name)(*args)

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
        self._decay *= min(self.recipe.ema_decay, (1 + self.global_step) / (10 + self.global_step))
        if self.global_step % self.recipe.steps_per_average == 0:
            self._move_average()

    def on_validation_start(self) -> None:
        """Let the average have all steps so far: checkpoints are written next."""
        self._move_average()

    def configure_optimizers(self) -> Any:
        """AdamW with a learning rate per step."""
        parameters = [p for p in self.diffusion.denoiser.parameters() if p.requires_grad]
        self.max_steps = int(min(self.max_steps, self.trainer.estimated_stepping_batches))
        fused = self.device.type in ("cpu", "cuda")  # many small weights: a loop over them costs as much as a backward pass
        optimizer = torch.optim.AdamW(parameters, lr=self.recipe.lr, weight_decay=self.recipe.weight_decay, fused=fused)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _move_average(self) -> None:
        self.diffusion.update_average(self._decay)
        self._decay = 1.0

    def _learning_rate(self, step: int) -> float:
        warmup = max(1, min(self.recipe.n_warmup_steps, self.max_steps // 10))
        done = min(1.0, step / max(1, self.max_steps))
        return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * done))

    def _loss(self, batch: tuple[Tensor, Tensor, Tensor], condition_dropout: float) -> Tensor:
        mean, sd, code = batch
        x = torch.addcmul(mean, sd, torch.randn_like(sd)) if self.recipe.draws_latents else mean
        return self.diffusion.denoiser.loss(x, self.conditions.index_select(0, code), condition_dropout)


class Unprofiled(PassThroughProfiler):
    """Lightning's profiler that measures nothing, without a generator for each of the some thirty actions of a step.

    Examples
    --------
    >>> with Unprofiled().profile("training_step"):
    ...     print("not measured")
    not measured
    """

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """The same empty context for all."""
        del action_name
        return self._nothing


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
