"""Training of the latent diffusion: its Lightning plan, and the runner that merges histories."""

from __future__ import annotations

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
from torch import Tensor

from dbdiffusion._words import real_number, whole_number
from dbdiffusion.model._latents import steps_per_epoch

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from dbdiffusion.diffusion import LatentDiffusion
    from dbdiffusion.model._latents import LatentDataModule

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
