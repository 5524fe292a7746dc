"""How do time and memory grow with cells, perturbations and genes?

    python benchmarks/scaling.py            # up to 100,000 cells, 1,000 perturbations, 5,000 genes
    python benchmarks/scaling.py --large    # adds 1,000,000 cells (backed h5ad), 10,000 perturbations, 20,000 genes

Every point is a process of its own on a file of simulated sparse counts: one epoch of either stage, 1,000 unseen targets (fewer
where fewer genes are left) predicted at once with 64 cells each, and 1,000 generated cells. Memory is the largest resident set
while a stage runs, less what the process held when the stage began. Slopes are of log time (or memory) on log size, over the
points of an axis.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from _results import RESULTS, write
from _screens import arguments
from anndata.io import sparse_dataset, write_elem

if TYPE_CHECKING:
    from collections.abc import Iterator

AXES = {
    "cells": ([10_000, 30_000, 100_000], [1_000_000]),
    "perturbations": ([100, 300, 1_000], [10_000]),
    "genes": ([1_000, 2_000, 5_000], [20_000]),
}
BASE = {"cells": 20_000, "perturbations": 100, "genes": 2_000}
QUICK = {"cells": [1_000, 2_000], "perturbations": [10, 30], "genes": [100, 200]}
QUICK_BASE = {"cells": 1_000, "perturbations": 10, "genes": 200}
IN_MEMORY = 200_000  # cells; larger files are read from disk batch by batch
N_TARGETS, N_CELLS = 1_000, 64
CHUNK = 10_000


class Stages:
    """Seconds of every stage, and the most memory (GiB) it took beside what was held when it began."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak: dict[str, float] = {}
        self.process_peak = 0.0
        self._running: dict[str, float] = {}
        threading.Thread(target=self._watch, daemon=True).start()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a block of code."""
        start, self._running[name] = time.perf_counter(), resident()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            self._note()
            del self._running[name]

    def inside(self, owner: object, method: str, name: str) -> None:
        """Watch a method that a larger stage calls."""
        original = getattr(owner, method)

        def watched(*args, **kwargs):
            with self(name):
                return original(*args, **kwargs)

        setattr(owner, method, watched)

    def _watch(self) -> None:
        while True:
            self._note()
            time.sleep(0.02)

    def _note(self) -> None:
        held = resident()
        self.process_peak = max(self.process_peak, held)
        for name, before in list(self._running.items()):
            self.peak[name] = max(self.peak.get(name, 0.0), held - before)


def resident() -> float:
    """Resident set of this process in GiB (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**30


def write_screen(file: Path, cells: int, perturbations: int, genes: int, seed: int = 0) -> None:
    """Stream a screen to disk: modules of genes, a shift of modules for each perturbation, sparse Poisson counts."""
    rng = np.random.default_rng(seed)
    module, n_modules = rng.integers(0, 12, genes), 12
    log_base = 1.2 * rng.standard_normal(genes) - 1.5
    effects = 0.5 * rng.standard_normal((perturbations + 1, n_modules))
    effects[0] = 0
    n_genes_hit = min(perturbations, genes // 2)
    names = np.array(
        ["control", *(f"GENE{i}" for i in range(n_genes_hit)), *(f"PERT{i}" for i in range(n_genes_hit, perturbations))]
    )
    code = rng.integers(0, perturbations + 1, cells)
    code[: cells // 10] = 0
    obs = pd.DataFrame(
        {"perturbation": pd.Categorical(names[code]), "batch": pd.Categorical(rng.integers(0, 2, cells).astype(str))}
    )
    obs.index = obs.index.astype(str)
    with h5py.File(file, "w") as store:
        for start in range(0, cells, CHUNK):
            rows = code[start : start + CHUNK]
            activity = 0.4 * rng.standard_normal((len(rows), n_modules)) + effects[rows]
            rates = np.exp(log_base + activity[:, module], dtype=np.float32)
            counts = sp.csr_matrix(rng.poisson(rates).astype(np.float32))
            if start == 0:
                write_elem(store, "X", counts)
            else:
                sparse_dataset(store["X"]).append(counts)
        write_elem(store, "obs", obs)
        write_elem(store, "var", pd.DataFrame(index=[f"GENE{i}" for i in range(genes)]))
        for name in ("uns", "obsm", "varm", "obsp", "varp", "layers"):
            write_elem(store, name, {})
        store.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})


def measure(file: Path, *, backed: bool) -> dict:
    """Run both stages, inference and generation on a file, in this process."""
    import logging

    from dbdiffusion import DBDiffusion
    from dbdiffusion.model import ScreenReader

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    stages = Stages()
    with stages("open and register"):
        adata = ad.read_h5ad(file, backed="r" if backed else None)
        DBDiffusion.setup_anndata(adata, batch_key="batch")
        model = DBDiffusion(adata)
    options = {"max_epochs": 1, "batch_size": 512, "enable_progress_bar": False}
    with stages("VAE, one epoch"):
        model.train_vae(**options, early_stopping=False)
    stages.inside(ScreenReader, "read", "effects and gene space")
    stages.inside(model, "_encode", "encode")
    stages.inside(model, "_predictor_of", "choose the strategy")
    with stages("whole diffusion stage"):
        model.train_diffusion(**options)
    inner = sum(stages.seconds[name] for name in ("effects and gene space", "encode", "choose the strategy"))
    stages.seconds["diffusion, one epoch"] = stages.seconds.pop("whole diffusion stage") - inner
    stages.peak["diffusion, one epoch"] = stages.peak.pop("whole diffusion stage")
    diffusion_memory(model, stages)
    targets = [name for name in adata.var_names if name not in set(model.perturbation_names)][:N_TARGETS]
    with stages("references"):
        model.reference_predictions(n_cells=N_CELLS)
    with stages("predict unseen targets"):
        model.predict_effects(targets, n_cells=N_CELLS)
    with stages("generate 1,000 cells"):
        model.generate(targets[0], n_cells=1_000)
    return {
        "backed": backed,
        "n_targets": len(targets),
        "seconds": stages.seconds,
        "peak_gib": stages.peak,
        "process_peak_gib": stages.process_peak,
    }


def diffusion_memory(model, stages: Stages) -> None:
    """The loop alone, on latents that are at hand: what it holds must not grow with genes."""
    import torch
    from scvi.train import Trainer

    from dbdiffusion.model import DiffusionPlan, LatentDataModule, Latents

    n, d = model.adata.n_obs, model.module.n_latent
    latents = Latents(torch.randn(n, d), torch.full((n, d), 0.1), torch.zeros(n, dtype=torch.long))
    plan = DiffusionPlan(model.module.diffusion, torch.zeros(1, model.module.n_embedding), max_steps=1)
    data = LatentDataModule(latents, np.arange(n), np.empty(0, dtype=int), 512)
    weights = {name: value.clone() for name, value in model.module.diffusion.state_dict().items()}
    with stages("diffusion loop alone"):
        Trainer(max_epochs=1, accelerator="auto", devices="auto", enable_progress_bar=False).fit(plan, data)
    model.module.diffusion.load_state_dict(weights)
    model.module.set_stage("vae")
    model.module.eval()


def run(points: list[dict], folder: Path, *, backed: bool) -> list[dict]:
    rows = []
    for point in points:
        size = {key: point[key] for key in BASE}
        file = folder / "screen.h5ad"
        on_disk = backed or point["cells"] > IN_MEMORY
        for work, details in {"write": size, "measure": {"backed": on_disk}}.items():
            command = [sys.executable, __file__, f"--{work}", json.dumps({"file": str(file), **details})]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(point | json.loads(answer.stdout.splitlines()[-1]))
        print(
            point,
            {k: round(v, 2) for k, v in rows[-1]["seconds"].items()},
            f"peak {rows[-1]['process_peak_gib']:.2f} GiB",
            flush=True,
        )
        file.unlink()
    return rows


def slopes(rows: list[dict]) -> pd.DataFrame:
    table = {}
    for axis in AXES:
        points = [row for row in rows if row["axis"] == axis]
        if len(points) < 2:
            continue
        size = np.log([row[axis] for row in points])
        for what in ("seconds", "peak_gib"):
            for stage in points[0][what]:
                value = np.log(np.maximum([row[what][stage] for row in points], 1e-3))
                table.setdefault(stage, {})[f"{what} ~ {axis}"] = np.polyfit(size, value, 1)[0]
    return pd.DataFrame.from_dict(table, orient="index")


def plot(rows: list[dict], file: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(2, len(AXES), figsize=(13, 7.5), sharex="col", sharey="row", layout="constrained")
    for column, axis in enumerate(AXES):
        points = sorted((row for row in rows if row["axis"] == axis), key=lambda row: row[axis])
        for panel, what in zip(panels[:, column], ("seconds", "peak_gib"), strict=True):
            for stage in points[0][what] if points else ():
                panel.plot(
                    [row[axis] for row in points], [max(row[what][stage], 1e-3) for row in points], "o-", ms=4, label=stage
                )
            panel.set(xscale="log", yscale="log")
            panel.spines[["top", "right"]].set_visible(False)
        panels[1, column].set_xlabel(axis)
    panels[0, 0].set_ylabel("seconds")
    panels[1, 0].set_ylabel("peak memory above start, GiB")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    figure.savefig(file, dpi=130)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--large", action="store_true", help="add the largest point of each axis")
    parser.add_argument("--backed", action="store_true", help="read every screen from disk, not only the largest")
    parser.add_argument("--axes", nargs="+", choices=list(AXES), default=list(AXES))
    parser.add_argument("--largest", type=int, help="leave out points above this many cells")
    parser.add_argument("--folder", type=Path, help="where screens are written; a million cells take some GB")
    for work in ("write", "measure"):
        parser.add_argument(f"--{work}", help="used inside: one point, as JSON")
    options = parser.parse_args()
    if options.write:
        size = json.loads(options.write)
        write_screen(Path(size.pop("file")), **size)
        return
    if options.measure:
        details = json.loads(options.measure)
        print(json.dumps(measure(Path(details["file"]), backed=details.get("backed", False))))
        return
    base = QUICK_BASE if options.quick else BASE
    points = []
    for axis in options.axes:
        small, large = AXES[axis]
        for value in QUICK[axis] if options.quick else [*small, *(large if options.large else [])]:
            points.append({"axis": axis, **base, axis: value})
    points = [point for point in points if options.largest is None or point["cells"] <= options.largest]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = run(points, Path(folder), backed=options.backed)
    table = slopes(rows)
    print(table.round(2).to_string())
    file = write("scaling", rows, options, slopes=table.to_dict(orient="index"))
    plot(rows, file.with_suffix(".png"))
    print("written:", file.name, file.with_suffix(".png").name, "in", RESULTS.name)


if __name__ == "__main__":
    main()
