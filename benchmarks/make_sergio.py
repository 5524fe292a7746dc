"""New screens of SERGIO (Dibaeinia & Sinha, Cell Systems 2020), a simulator of gene regulation that is not ours.

    pip install --group benchmarks
    python benchmarks/make_sergio.py --out sergio --seeds 3

A seed draws a network: 20 masters, 100 factors and 280 targets in 20 modules. A factor is under its module's master, at times
under another master and under earlier factors of its module; a target is under one to three factors, most of its own module.
Each of the masters and factors is knocked out in 60 cells, and 1,020 are control. SERGIO solves the chemical Langevin equation;
cells are taken so far apart in time (ten time units at a decay of 0.8) that a population's mean is not that of one short
trajectory. It gives expression without counting noise, so negative binomial counts are put on top, a library size a cell.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

if TYPE_CHECKING:
    from types import ModuleType

N_MASTERS, N_FACTORS, N_TARGETS = 20, 100, 280
N_CELLS, N_CONTROL = 60, 1020
DECAY, STEP, STEPS_BETWEEN_CELLS, STEPS_BEFORE = 0.8, 0.1, 100, 150
REPRESSES, OTHER_MASTER, OTHER_FACTOR, OTHER_MODULE = 0.3, 0.3, 0.3, 0.15  # chances
LIBRARY_SIZE, LOG_LIBRARY_SD, DISPERSION = 2500.0, 0.3, 4.0


def sergio_fresh(seed: int, folder: Path | None = None) -> ad.AnnData:
    """A screen (8220, 400) of a network of its own; one kept in the folder is read instead of made, which takes minutes."""
    file = folder / f"sergio-fresh-{seed}.h5ad" if folder else None
    if file and file.exists():
        return ad.read_h5ad(file)
    adata = made(seed)
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        adata.write_h5ad(file)
    return adata


def made(seed: int, n_cells: int = N_CELLS, n_control: int = N_CONTROL) -> ad.AnnData:
    try:
        import sergio_rs
    except ImportError:
        msg = "Skipped: SERGIO screens need the package sergio-rs, `pip install --group benchmarks`."
        raise SystemExit(msg) from None
    rng = np.random.default_rng(seed)
    drawn, profile = edges(rng), int(rng.integers(2**31))
    genes = sorted({name for regulator, gene, _ in drawn for name in (regulator, gene)})
    counts, column = [], []
    for name in ["control", *[gene for gene in genes if gene.startswith(("MR", "TF"))]]:
        # sergio-rs keeps what a knock-out has removed, so that a second one of the same network has both: each has its own
        network, masters = system(sergio_rs, drawn, profile)
        n = n_cells
        if name == "control":
            n = n_control
        else:
            network, masters = network.ko_perturbation(name, masters)
        # a seed of its own for each population: with one for all, noise would be shared in part
        run = sergio_rs.Sim(network, n, STEPS_BEFORE, STEPS_BETWEEN_CELLS, STEP, 1, int(rng.integers(2**31)))
        table = run.simulate(masters)
        expression = pd.DataFrame(table.drop("Genes").to_numpy().T, columns=table["Genes"].to_list())
        counts.append(_counts(rng, expression.reindex(columns=genes, fill_value=0.0).to_numpy()))
        column += [name] * n
    obs = pd.DataFrame({"perturbation": pd.Categorical(column)}, index=[f"c{i}" for i in range(len(column))])
    return ad.AnnData(sp.vstack(counts, format="csr"), obs=obs, var=pd.DataFrame(index=genes))


def system(sergio_rs: ModuleType, drawn: list[tuple[str, str, float]], profile: int) -> tuple:
    """The network and how fast its masters are made; the same for the same arguments."""
    genes: dict = {}
    network = sergio_rs.GRN()
    for regulator, gene, strength in drawn:
        ends = [genes.setdefault(name, sergio_rs.Gene(name, DECAY)) for name in (regulator, gene)]
        network.add_interaction(*ends, strength, None, 2)
    network.set_mrs()
    return network, sergio_rs.MrProfile.from_random(network, 1, (0.5, 1.5), (2.0, 4.0), profile)


def edges(rng: np.random.Generator) -> list[tuple[str, str, float]]:
    """Regulator, gene and strength (negative where it represses); without cycles, as SERGIO needs it."""
    pairs: set[tuple[str, str]] = set()
    for factor in range(N_FACTORS):
        module = factor % N_MASTERS
        pairs.add((f"MR{module}", f"TF{factor}"))
        if rng.random() < OTHER_MASTER:
            pairs.add((f"MR{rng.integers(N_MASTERS)}", f"TF{factor}"))
        earlier = np.arange(module, factor, N_MASTERS)
        if len(earlier) and rng.random() < OTHER_FACTOR:
            pairs.add((f"TF{rng.choice(earlier)}", f"TF{factor}"))
    for target in range(N_TARGETS):
        for _ in range(rng.integers(1, 4)):
            module = rng.integers(N_MASTERS) if rng.random() < OTHER_MODULE else target % N_MASTERS
            pairs.add((f"TF{module + N_MASTERS * rng.integers(N_FACTORS // N_MASTERS)}", f"T{target}"))
    return [(*pair, float(rng.uniform(1, 5) * (-1 if rng.random() < REPRESSES else 1))) for pair in sorted(pairs)]


def _counts(rng: np.random.Generator, expression: np.ndarray) -> sp.csr_matrix:
    library = LIBRARY_SIZE * np.exp(LOG_LIBRARY_SD * rng.standard_normal((len(expression), 1)))
    mean = library * expression / expression.sum(axis=1, keepdims=True)
    return sp.csr_matrix(rng.poisson(rng.gamma(DISPERSION, mean / DISPERSION)).astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the h5ad files; those that are there are left")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    options = parser.parse_args()
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        adata = sergio_fresh(seed, options.out)
        print(f"seed {seed}: {adata.n_obs} cells, {adata.n_vars} genes", flush=True)


if __name__ == "__main__":
    main()
