"""How long do effects of a whole genome take, in how much memory, and is a run that was killed the same as one that was not?

    python benchmarks/genome_scale.py                                # 20,000 targets, by two processes of one thread
    python benchmarks/genome_scale.py --targets 200 --processes 1    # a part of it
    python benchmarks/genome_scale.py --lam 1                        # cells are generated, whatever the screen says of them

A screen of simulated counts, 5,001 genes and 60 perturbations, a model trained for a few epochs, and vectors that place 20,000
names; ``write_effects`` with its defaults. These counts hold no effects, so the generated mean gets no weight and no cells are
generated; ``--lam`` gives it one. Then 300 targets (or all, if they are fewer) are written twice, once by a process that is
killed half way (``kill -9``) and started anew: ``same`` tells whether all files of the two stores are the same, byte by byte.
``start``: seconds until every process has its first block (imports, loading, references, and a block of 100);
``seconds_per_target``: of a process from then on, with ``cpu_per_target`` of its processor, which other jobs may have kept
waiting; ``minutes_of_20000``: what the latter makes on two free cores, by extrapolation; ``peak_gib``: of the largest process.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from _results import write
from scaling import write_screen

GENOME, GENES, PERTURBATIONS, CELLS = 20_000, 5_001, 60, 1_000  # to 5,000 genes gene space is exact, and takes as long again
N_FEATURES, EPOCHS = 20, 4
KILLED = 300  # targets that are written twice


def names(n: int) -> list[str]:
    """Unmeasured ones: most are not among the measured genes."""
    return [f"GENE{i}" for i in range(GENOME, GENOME - n, -1)]


def make(folder: Path, n_genes: int) -> None:
    """A trained model."""
    from dbdiffusion import DBDiffusion

    write_screen(folder / "screen.h5ad", CELLS, PERTURBATIONS, n_genes)
    adata = ad.read_h5ad(folder / "screen.h5ad")
    known = [f"GENE{i}" for i in range(GENOME + 1)]
    vectors = np.random.default_rng(0).standard_normal((len(known), N_FEATURES))
    adata.uns["vectors"] = pd.DataFrame(vectors, index=known, columns=[f"V{i}" for i in range(N_FEATURES)])
    DBDiffusion.setup_anndata(adata, batch_key="batch", embedding_key="vectors")
    model = DBDiffusion(adata)
    model.train(max_epochs=EPOCHS, max_epochs_diffusion=EPOCHS, enable_progress_bar=False)
    model.save(folder / "model", save_anndata=True)


@dataclass(frozen=True)
class Run:
    """A model's folder and how its effects are written."""

    folder: Path
    lam: float | None

    def work(self, store: Path, n: int, part: tuple[int, int] | None) -> None:
        """What a user calls."""
        from dbdiffusion import DBDiffusion

        DBDiffusion.load(self.folder / "model").write_effects(store, names(n), part=part, lam=self.lam)

    def started(self, store: Path, n: int, part: str = "1/1") -> subprocess.Popen:
        """A process that does so."""
        given = [] if self.lam is None else ["--lam", str(self.lam)]
        command = [sys.executable, "-W", "ignore", __file__, "--work", str(self.folder), str(store), str(n), part, *given]
        return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)


def blocks_of(store: Path) -> int:
    return len(list((store.parent / f".{store.name}.unfinished" / "done").glob("*.h5")))


def digest(store: Path) -> str:
    """Of all files and their names."""
    files = sorted(file for file in store.rglob("*") if file.is_file())
    return hashlib.sha256(b"".join(str(f.relative_to(store)).encode() + f.read_bytes() for f in files)).hexdigest()


def killed(run: Run, n: int) -> tuple[int, bool]:
    """Blocks of a run when it was killed half way, and whether it became, begun again, the same as one that was not killed."""
    whole, store = run.folder / "whole.zarr", run.folder / "killed.zarr"
    ended(run.started(whole, n))
    process = run.started(store, n)
    while blocks_of(store) < max(n // 200, 1):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = blocks_of(store)
    ended(run.started(store, n))
    return done, digest(store) == digest(whole)


def timed(run: Run, n: int, processes: int) -> dict:
    store, start = run.folder / "effects.zarr", time.perf_counter()
    parts = [run.started(store, n, f"{i + 1}/{processes}") for i in range(processes)]
    while blocks_of(store) < processes:
        time.sleep(0.05)
    first, used = time.perf_counter() - start, processor_seconds(parts[0].pid)
    while parts[0].poll() is None:
        cpu = processor_seconds(parts[0].pid) - used
        time.sleep(0.05)
    for process in parts:
        ended(process)
    if processes > 1:
        ended(run.started(store, n))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    after_first = max(n / processes - 100, 1)
    size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file()) / 2**30
    before, same = killed(run, min(n, KILLED))
    return {
        "lam": run.lam, "targets": n, "processes": processes, "start": first, "seconds": seconds,
        "seconds_per_target": (seconds - first) / after_first, "cpu_per_target": cpu / after_first,
        "minutes_of_20000": cpu / after_first * GENOME / 2 / 60,
        "peak_gib": peak, "store_gib": size, "blocks_before_kill": before, "same": same,
    }  # fmt: skip


def processor_seconds(process: int) -> float:
    """Of a process that runs (Linux)."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ended(process: subprocess.Popen) -> None:
    if process.wait():
        msg = f"A process ended with {process.returncode}."
        raise RuntimeError(msg)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", type=int, default=GENOME)
    parser.add_argument("--genes", type=int, default=GENES)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--lam", type=float, help="weight of the generated mean; default: tuned")
    parser.add_argument("--folder", type=Path, help="with a model that was made here before, or to make one in")
    parser.add_argument("--out", type=Path, help="JSON file; default: benchmarks/results/genome_scale.json")
    parser.add_argument("--work", nargs=4, help="used inside: folder, store, number of targets, part")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    if options.work:
        i, n = map(int, options.work[3].split("/"))
        run = Run(Path(options.work[0]), options.lam)
        run.work(Path(options.work[1]), int(options.work[2]), None if n == 1 else (i, n))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not (folder / "model").exists():
            make(folder, options.genes)
        row = {"genes": options.genes} | timed(Run(folder, options.lam), options.targets, options.processes)
    print(pd.Series(row).to_string())
    print("written:", write("genome_scale", [row], options).name)


if __name__ == "__main__":
    main()
