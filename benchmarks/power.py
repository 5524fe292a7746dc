"""Does shrinking measured effects towards their own predictions find more true genes where cells are few?

    python benchmarks/power.py

Simulated screens with known truth in which every perturbation has 10, 20 or 50 cells (60 perturbations, 1,000 genes). A gene
is null if its true effect is below 2 %; a discovery is false if the gene is null or the sign is wrong. Genes a perturbation
hits itself do not count. Per perturbation: the most discoveries, by rising p-value, at a realised false discovery proportion
of 5 % (``found``); discoveries by Benjamini-Hochberg at 5 % and their false share; squared error and coverage of the interval.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _results import write
from _scores import is_wrong
from _screens import seeds_of, simulated, trained, training_arguments

if TYPE_CHECKING:
    import argparse

LEVEL = 0.05


def trial(alignment: float, n_cells: int, seed: int, options: argparse.Namespace) -> list[dict]:
    """One screen; every measured perturbation with Welch's test and shrunk."""
    screen = simulated(alignment, 60, seed, n_cells_per_perturbation=n_cells)
    model = trained(screen.train, screen, seed, options)
    rows = []
    for shrink in (False, True):
        table = model.predict_effects(screen.candidates, shrink=shrink, seed=seed)
        for name, block in table.groupby("target", sort=False):
            others = ~block["variable"].isin(model.parts_of(name)).to_numpy()
            what = {"alignment": alignment, "n_cells": n_cells, "seed": seed, "shrink": shrink, "target": name}
            rows.append(what | score(block[others], screen.reference.loc[name].to_numpy()[others]))
    return rows


def score(table: pd.DataFrame, truth: np.ndarray) -> dict:
    wrong = is_wrong(table["effect"].to_numpy(), truth)
    called = (table["adj_p_value"] < LEVEL).to_numpy()
    covered = (table["ci_low"].to_numpy() <= truth) & (truth <= table["ci_high"].to_numpy())
    return {
        "found": most_found(table["p_value"].to_numpy(), wrong),
        "called": int(called.sum()),
        "called_wrong": int((called & wrong).sum()),
        "mse": float(np.mean((table["effect"].to_numpy() - truth) ** 2)),
        "coverage_95": float(covered.mean()),
    }


def most_found(p_value: np.ndarray, wrong: np.ndarray) -> int:
    """True discoveries of the longest list, by rising p-value, whose false share is at most 5 %."""
    false = np.cumsum(wrong[np.argsort(p_value, kind="stable")])
    length = np.arange(1, len(false) + 1)
    allowed = np.flatnonzero(false <= LEVEL * length)
    return int(length[allowed[-1]] - false[allowed[-1]]) if len(allowed) else 0


def summarise(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    table = frame.groupby(["alignment", "n_cells", "shrink"]).agg(
        targets=("target", "size"), found=("found", "sum"), called=("called", "sum"), called_wrong=("called_wrong", "sum"),
        mse=("mse", "mean"), coverage_95=("coverage_95", "mean"),
    )  # fmt: skip
    table["false_share"] = table["called_wrong"] / table["called"].clip(lower=1)
    welch = table.xs(False, level="shrink")
    for column in ("found", "mse"):
        table[f"{column}/welch"] = table[column] / welch[column].reindex(table.index.droplevel("shrink")).to_numpy()
    return table


def main() -> None:
    parser = training_arguments(__doc__)
    parser.add_argument("--alignment", type=float, nargs="+", default=[1.0, 0.0])
    parser.add_argument("--n-cells", type=int, nargs="+", default=[10, 20, 50])
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        for alignment in options.alignment:
            for n_cells in options.n_cells:
                rows += trial(alignment, n_cells, seed, options)
                print(summarise(rows).round(3).to_string(), flush=True)
    print("written:", write("power", rows, options).name)


if __name__ == "__main__":
    main()
