"""How well can an effect be predicted on the simulated screens, if all is known but what is drawn for each perturbation alone?

    python benchmarks/what_can_be_known.py --alignment 1 0.5 0 --n-perturbations 60 --n-held-out 13
    python benchmarks/what_can_be_known.py --alignment 1 0.5 0 --n-perturbations 200 --n-held-out 40

`knowable` is the mean of a perturbation's effect over its draws (the unrelated module, the strength), given its module and
everything that the perturbations share, as the simulator has it: no predictor has a smaller expected squared error, whatever
it learns from other perturbations and from co-expression. Only the sparse shifts of single genes, which have mean zero, are set
to zero instead of drawn. `all but genes` is told the draws as well, and so shows what those shifts and the integration leave.
The other rows are those of `against_baselines.py` for the same perturbations; `mse/mean` and `/ oracle` are ratios of means.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _results import RESULTS, get, write
from _screens import folds_of, screen_arguments, seeds_of, simulated

from dbdiffusion.metrics import mean_squared_error, pearson
from dbdiffusion.simulate import knowable_effects

if TYPE_CHECKING:
    import argparse

STORED = ("mean", "own_module", "dbdiffusion", "oracle")
KEYS = ["screen", "seed", "target"]


def rows_of(alignment: float, n_perturbations: int, seed: int, options: argparse.Namespace) -> list[dict]:
    changes = {"n_genes": 150} if options.quick else {}
    screen = simulated(alignment, n_perturbations, seed, **changes)
    truth = screen.reference.to_numpy()
    drawn = {"seed": seed, "alignment": alignment, "n_perturbations": n_perturbations, **changes}
    predicted = {
        what: knowable_effects(told_the_draws=told, **drawn).loc[screen.reference.index, screen.reference.columns].to_numpy()
        for what, told in {"knowable": False, "all but genes": True}.items()
    }
    rows = []
    for names in folds_of(screen, options, seed):
        chosen = screen.reference.index.get_indexer(names)
        of_all = np.delete(truth, chosen, axis=0).mean(axis=0)
        own = np.stack([screen.reference.columns == name for name in names])
        reference = np.where(own, np.nan, truth[chosen])
        for method, effect in predicted.items():
            errors = mean_squared_error(effect[chosen], reference)
            against_mean = pearson(effect[chosen] - of_all, reference - of_all)
            for name, mse, r in zip(names, errors, against_mean, strict=True):
                what = {"screen": screen.name, "seed": seed, "method": method, "target": name}
                rows.append(what | {"mse": float(mse), "pearson_mean": float(r)})
    return rows


def summarise(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    stored = pd.DataFrame(get(RESULTS / "against_baselines_simulated.json")["rows"])
    stored = stored[stored["method"].isin(STORED)].merge(frame[KEYS].drop_duplicates(), on=KEYS)
    known = frame.merge(stored[KEYS].drop_duplicates(), on=KEYS) if len(stored) else frame
    both = pd.concat([known, stored[[*KEYS, "method", "mse", "pearson_mean"]]])
    table = both.groupby(["screen", "method"], sort=False)[["mse", "pearson_mean"]].mean().unstack("method")
    if "mean" not in table["mse"]:
        return table.stack("method", future_stack=True)
    ratios = pd.concat(
        {
            "mse": table["mse"],
            "mse/mean": table["mse"].div(table["mse"]["mean"], axis=0),
            "pearson_mean": table["pearson_mean"],
            "pearson_mean / oracle": table["pearson_mean"].div(table["pearson_mean"]["oracle"], axis=0),
        },
        axis=1,
    )
    return ratios.stack("method", future_stack=True).drop("mean", level="method")


def main() -> None:
    options = screen_arguments(__doc__).parse_args()
    rows: list[dict] = []
    for seed in seeds_of(options):
        for n_perturbations in options.n_perturbations:
            for alignment in options.alignment:
                rows += rows_of(alignment, n_perturbations, seed, options)
        file = write("what_can_be_known", rows, options)
    print(summarise(rows).round(3).to_string())
    print("written:", file.name)


if __name__ == "__main__":
    main()
