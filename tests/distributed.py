"""Trains stage two in one or several processes and writes what came of it; run as a script, which Lightning starts again."""

import json
import logging
import os
import sys
import warnings
from pathlib import Path

import scvi
import torch
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.diffusion import Denoiser
from dbdiffusion.model._training import DiffusionPlan

N_CELLS = 320


def loss_without_chance(self, z_0, condition, _condition_dropout):
    """The denoiser's loss, with time and noise that follow from the cell, so that a cell brings its own wherever it goes."""
    t = (z_0[:, 0].abs() * 997 % 1 * 1000).long()
    noise = torch.sin(1000 * z_0) * 2**0.5
    alpha, sigma = self.alpha[t, None], self.sigma[t, None]
    velocity = self.network(alpha * z_0 + sigma * noise, t / 1000, self.network.embed_condition(condition))
    return torch.nn.functional.mse_loss(velocity, alpha * noise - sigma * z_0) + 0 * self.network.null_condition.sum()


def posterior_means(self, batch, condition_dropout):
    mean, _, code = batch
    return self.diffusion.denoiser.loss(mean, self.conditions[code], condition_dropout)


def train(n_processes: int, out: Path) -> None:
    Denoiser.loss, DiffusionPlan._loss = loss_without_chance, posterior_means
    scvi.settings.seed = 0
    adata = tiny_screen()
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train_vae(max_epochs=2, accelerator="cpu", devices=1, **QUIET)
    model.train_indices, model.validation_indices = model.train_indices[:N_CELLS], model.validation_indices[:0]
    scvi.settings.seed = 0
    options = {"strategy": "ddp"} if n_processes > 1 else {}
    model.train_diffusion(
        max_epochs=12, batch_size=N_CELLS // n_processes, accelerator="cpu", devices=n_processes, **options, **QUIET
    )
    rank = os.environ.get("LOCAL_RANK", "0")
    history = model.history.get("diffusion_train_loss")  # only the first process keeps one
    answer = {
        "losses": [] if history is None else history["diffusion_train_loss"].tolist(),
        "averaged": torch.cat([p.flatten() for p in model.module.diffusion.averaged.parameters()]).tolist(),
    }
    (out / f"{n_processes}_{rank}.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    train(int(sys.argv[1]), Path(sys.argv[2]))
