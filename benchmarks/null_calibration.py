"""Are the p-values of measured perturbations right where nothing happened?

    python benchmarks/null_calibration.py

Pseudo-perturbations of control cells, tested against the other control cells, on the simulated screen and on renge. Shares
of p < .05 and p < .01 over genes, and the number of discoveries at a false discovery rate of 5 %. Splits of one screen share
cells, so several seeds (simulated: screens; renge: sets of splits) give the spread.
"""

from __future__ import annotations

import logging
import warnings

import anndata as ad
import pandas as pd
from _results import write
from _screens import DATA, arguments, seeds_of

from dbdiffusion import DBDiffusion, simulate_screen


def trial(name: str, seed: int, n_cells: int, n_splits: int) -> dict:
    """One screen, one size of pseudo-perturbation."""
    if name == "renge":
        adata, setup = ad.read_h5ad(DATA / "renge_hipsc.h5ad"), {"batch_key": "day"}
    elif name == "norman":
        adata, setup = ad.read_h5ad(DATA / "norman_subset.h5ad"), {"size_factor_key": "total_counts"}
    else:
        adata, setup = simulate_screen(n_perturbations=3, n_cells_per_perturbation=20, seed=seed), {"batch_key": "batch"}
    DBDiffusion.setup_anndata(adata, **setup)
    null = DBDiffusion(adata, n_latent=2).null_calibration(n_splits=n_splits, n_cells=n_cells, seed=seed)
    means = null.table.drop(columns="n_cells").mean()
    by_expression = null.by_expression["below_0.05"].add_prefix("below_0.05, expressing ")
    return {
        "screen": name, "seed": seed, "n_cells": n_cells, "n_control": int((adata.obs["perturbation"] == "control").sum()),
        **means.to_dict(), "splits_with_discoveries": float((null.table["n_discoveries"] > 0).mean()),
        **by_expression.to_dict(), "tested": float(null.p_values.notna().mean(axis=None)),
    }  # fmt: skip


def summarise(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows).groupby(["screen", "n_cells"], sort=False).mean(numeric_only=True).drop(columns="seed")


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--n-cells", type=int, nargs="+", default=[10, 20, 50, 100, 300])
    parser.add_argument("--n-splits", type=int, default=100)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    splits = 10 if options.quick else options.n_splits
    rows = [
        trial(name, seed, n_cells, splits)
        for name in ("simulated", "renge", "norman")
        for n_cells in options.n_cells
        if name != "norman" or n_cells <= 50  # of a hundred control cells
        for seed in seeds_of(options)
    ]
    print(summarise(rows).round(4).to_string())
    print("written:", write("null_calibration", rows, options, n_splits=splits).name)


if __name__ == "__main__":
    main()
