"""What does the package cost beside the bare computation, on the same device in the same run?

    python benchmarks/overhead.py [--device cuda]

Denoiser training: a step of the Lightning plan (minibatches, noise, dropout of conditions, moving average, logging) against
forward, squared error, backward and the same optimiser on a fixed minibatch. Sampling: against as many bare passes of the
network, of as many cells at once as the model samples in that precision. VAE stage: against `scvi.model.SCVI` with the same
arguments. Inference: against reading the counts once through scvi's loader. Ours and bare take turns; the least time of each
is what counts, since other work on the machine only adds to it, and `cpu_ratio` is of processor time, which such work inflates
less. A pass of the bare network has a condition for every cell; ours shares FiLM where cells share the condition.

From counts to the effects of ten targets: ours is measured once, with the defaults, on a simulated screen of 60 perturbations
(1,000 optimiser steps of the diffusion; 256 cells in 15 steps for every target and reference; inference). The paper's recipe
is not run but extrapolated from the steps (in the precision that is this device's default) and the decoding measured here: the
same VAE, 800,000 optimiser steps of 128 cells, and for every target 30,000 cells in 1,000 guided steps and their decoding.
That leaves out its longer training of the VAE and the cells that it draws for every neighbour of a target.
"""

from __future__ import annotations

import logging
import time
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scvi
import torch
from _results import write
from _screens import arguments, simulated
from scvi.dataloaders import AnnDataLoader
from scvi.train import Trainer

from dbdiffusion import DBDiffusion
from dbdiffusion.data import hold_out
from dbdiffusion.diffusion import LatentDiffusion, draw_noise, steps_of
from dbdiffusion.model import DiffusionPlan, LatentDataModule, Latents, Unprofiled, fit_linear_part, standardised
from dbdiffusion.predict import BLOCK, latents_at_once

if TYPE_CHECKING:
    from collections.abc import Callable

D, E, HIDDEN, BLOCKS = 20, 32, 128, 3
WIDE = 256  # hidden units at which products of matrices, and no longer norms and additions, take most of the time
N_CELLS, N_CONDITIONS, N_STEPS = 7000, 61, steps_of("dpm++")
FREED = 24 * 2**20  # bytes; a block of this size given back, as decoding does, and the C library keeps memory for the next ones
RECIPE = {"optimiser steps": 8 * 10**5, "cells a step": 128, "cells a target": 3 * 10**4, "sampler steps": 1000}  # the paper's


def seconds(work: Callable[[], object], device: str) -> tuple[float, float]:
    """On the clock, and of processors."""
    start, start_of_process = time.perf_counter(), time.process_time()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - start_of_process


def compare(
    what: str, ours: Callable[[], object], bare: Callable[[], object], device: str, turns: int, per: float = 1
) -> dict[str, object]:
    """Least milliseconds of both and their ratio, on the clock and of processors; a first turn warms up and is left out."""
    taken = np.array([[seconds(ours, device), seconds(bare, device)] for _ in range(turns + 1)])[1:] / per
    (ms, cpu_ms), (bare_ms, bare_cpu_ms) = 1e3 * taken.min(axis=0)
    return {
        "what": what,
        "ms": float(ms),
        "bare_ms": float(bare_ms),
        "ratio": float(ms / bare_ms),
        "cpu_ratio": float(cpu_ms / bare_cpu_ms),
    }


def training(batch_size: int, n_steps: int, turns: int, device: str, *, bfloat16: bool) -> dict:
    latents = Latents(torch.randn(N_CELLS, D), 0.3 * torch.rand(N_CELLS, D), torch.randint(0, N_CONDITIONS, (N_CELLS,)))
    conditions = torch.randn(N_CONDITIONS, E)
    per_epoch = N_CELLS // batch_size
    epochs = max(1, round(n_steps / per_epoch))
    diffusion = LatentDiffusion(D, E, HIDDEN, BLOCKS)
    diffusion.use_bfloat16(bfloat16)
    fit_linear_part(diffusion, latents, conditions, conditions[0])
    latents = standardised(latents, diffusion, conditions)
    data = LatentDataModule(latents, np.arange(N_CELLS), np.empty(0, dtype=int), batch_size)

    def plan() -> None:
        options = {"enable_progress_bar": False, "accelerator": device, "devices": 1, "profiler": Unprofiled()}
        Trainer(max_epochs=epochs, **options).fit(DiffusionPlan(diffusion, conditions, epochs * per_epoch), data)

    network = LatentDiffusion(D, E, HIDDEN, BLOCKS).denoiser.network.to(device)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    z, t, condition, target = (
        torch.randn(shape, device=device) for shape in ((batch_size, D), batch_size, (batch_size, E), (batch_size, D))
    )

    def bare() -> None:
        for _ in range(epochs * per_epoch):
            optimizer.zero_grad()
            with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
                velocity = network(z, t, network.embed_condition(condition)).float()
            torch.nn.functional.mse_loss(velocity, target).backward()
            optimizer.step()

    return compare(
        f"denoiser training step, {batch_size} cells, {precision(bfloat16)}", plan, bare, device, turns, per=epochs * per_epoch
    )


def precision(bfloat16: bool) -> str:
    return "bfloat16" if bfloat16 else "float32"


def sampling_of(*, shared: bool) -> str:
    return f"sampling 1,000 cells in {N_STEPS} steps, a condition for {f'{BLOCK} cells' if shared else 'each cell'}"


@torch.no_grad()
def sampling(turns: int, device: str, *, shared: bool, bfloat16: bool, n_hidden: int = HIDDEN) -> dict:
    diffusion = LatentDiffusion(D, E, n_hidden, BLOCKS).to(device)
    diffusion.use_bfloat16(bfloat16)
    n_targets, n_cells = latents_at_once(diffusion) // BLOCK, BLOCK
    conditions, noise = torch.randn(n_targets, E, device=device), draw_noise(n_cells, D, "dpm++", N_STEPS, 0).to(device)
    n = n_targets * n_cells
    each, z, t = conditions.repeat_interleave(n_cells, dim=0), noise[0].repeat(n_targets, 1), torch.rand(n, device=device)
    network = diffusion.averaged.network

    def ours() -> None:
        if shared:
            diffusion.sample(conditions[:, None], noise[:, None], n_steps=N_STEPS)
        else:
            diffusion.sample(each, z[None], n_steps=N_STEPS)

    def bare() -> None:
        for _ in range(N_STEPS):
            with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
                network(z, t, network.embed_condition(each))

    wide = f"{n_hidden} hidden units, " if n_hidden != HIDDEN else ""
    what = f"{sampling_of(shared=shared)}, {wide}{precision(bfloat16)}"
    return {**compare(what, ours, bare, device, turns, per=n / 1000), "at_once": n}


def against_the_paper(rows: list[dict], n_targets: int, device: str, *, quick: bool) -> list[dict]:
    """From counts to effects: ours, measured, and the paper's recipe, extrapolated from rows."""
    screen = simulated(1.0, 20 if quick else 60, 0)
    targets = screen.candidates[:n_targets]
    adata, _ = hold_out(screen.train, targets)
    DBDiffusion.setup_anndata(adata, **screen.setup)
    model = DBDiffusion(adata)
    options = {"max_epochs": 2 if quick else None, "enable_progress_bar": False, "accelerator": device}
    vae, _ = seconds(lambda: model.train_vae(**options), device)
    stage_two, _ = seconds(lambda: model.train_diffusion(**options), device)
    predicting, _ = seconds(lambda: model.predict_effects(targets), device)
    generating, _ = seconds(lambda: model.generate(targets[0], n_cells=4 * BLOCK), device)

    diffusion = model.module.diffusion
    default = precision(diffusion.averaged.computes_in_bfloat16(diffusion.mean.device))
    ms = {row["what"]: row["ms"] for row in rows}
    step = ms[f"denoiser training step, {RECIPE['cells a step']} cells, {default}"] / 1000
    cell = ms[f"{sampling_of(shared=True)}, {default}"] / 1e6
    decoding = max(generating / (4 * BLOCK) - cell, 0)
    guided = 2 * cell / N_STEPS  # a step of the recipe passes the network twice
    a_target = RECIPE["cells a target"] * (RECIPE["sampler steps"] * guided + decoding)
    trained = vae + stage_two, vae + step * RECIPE["optimiser steps"]
    costs = {
        "training, VAE included": trained,
        "a target": (predicting / n_targets, a_target),
        f"training and {n_targets} targets": (trained[0] + predicting, trained[1] + n_targets * a_target),
    }
    label = "{}: ours, and the paper's recipe extrapolated".format
    return [
        {"what": label(what), "ms": 1e3 * ours, "recipe_ms": 1e3 * theirs, "recipe / ours": theirs / ours}
        for what, (ours, theirs) in costs.items()
    ]


def vae_and_inference(n_genes: int, epochs: int, turns: int, device: str) -> list[dict]:
    screen = simulated(1.0, 40, 0, n_genes=n_genes)
    targets = screen.candidates[:10]
    adata, _ = hold_out(screen.train, targets)
    options = {
        "max_epochs": epochs,
        "batch_size": 256,
        "early_stopping": False,
        "enable_progress_bar": False,
        "accelerator": device,
    }
    DBDiffusion.setup_anndata(adata, **screen.setup)
    model = DBDiffusion(adata)
    copy = adata.copy()
    scvi.model.SCVI.setup_anndata(copy, **screen.setup)
    plain = scvi.model.SCVI(copy, n_latent=20, gene_likelihood="nb")
    size = f"{adata.n_obs} cells x {n_genes} genes"

    def train() -> None:
        model.train_vae(**options)

    def train_plain() -> None:
        plain.train(**options)

    rows = [compare(f"VAE stage, {epochs} epochs, {size}", train, train_plain, device, turns)]
    model.train_diffusion(max_epochs=2, enable_progress_bar=False, accelerator=device)

    def read() -> None:
        for _ in AnnDataLoader(model.adata_manager, batch_size=512):
            pass

    def predict_all() -> None:
        model.predictor().forget_references()
        model.predict_effects(targets)

    def predict() -> None:
        model.predict_effects(targets)

    for what, ours in {
        f"observed effects, {size}": model.observed_effects,
        "10 targets and 30 references, generated and rectified": predict_all,
        "10 targets generated and rectified, references at hand": predict,
    }.items():
        rows.append(compare(f"{what} / reading once", ours, read, device, turns))
    return rows


def processor(device: str) -> str:
    """The GPU's name, or what the CPU has for bfloat16."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    has = getattr(torch.cpu, "get_capabilities", dict)()
    instructions = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
    return "CPU, " + next((label for key, label in instructions.items() if has.get(key)), "no bfloat16")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    torch.zeros(FREED, dtype=torch.uint8)
    turns, steps, device = (2, 20, options.device) if options.quick else (options.turns, 400, options.device)
    rows = []
    for bfloat16 in (False, True):
        rows += [
            training(batch_size, min(steps, steps * 512 // batch_size), turns, device, bfloat16=bfloat16)
            for batch_size in (RECIPE["cells a step"], 512, 2048)
        ]
        rows += [
            sampling(turns, device, shared=shared, bfloat16=bfloat16, n_hidden=n_hidden)
            for n_hidden in (HIDDEN, WIDE)
            for shared in (False, True)
        ]
    rows += against_the_paper(rows, 4 if options.quick else 10, device, quick=options.quick)
    rows += vae_and_inference(200 if options.quick else 1000, 2 if options.quick else 5, min(turns, 3), device)
    rows = [{"processor": processor(device), **row} for row in rows]
    print(pd.DataFrame(rows).set_index("what").round(2).to_string())
    facts = {"device": device, "threads": torch.get_num_threads()}
    print("written:", write("overhead", rows, options, **facts).name)


if __name__ == "__main__":
    main()
