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

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _results import RESULTS, get, write
from _screens import folds_of, screen_arguments, seeds_of, simulated

from dbdiffusion import simulate_screen
from dbdiffusion.metrics import mean_squared_error, pearson
from dbdiffusion.simulate import LOG_STRENGTH_SD, Effects, Simulation, draw_simulation, mixed_shift
from dbdiffusion.simulate import population_effects as effects_in

if TYPE_CHECKING:
    import argparse

STORED = ("mean", "own_module", "dbdiffusion", "oracle")
STRENGTH_NODES, STRENGTH_WEIGHTS = np.polynomial.hermite_e.hermegauss(5)
KEYS = ["screen", "seed", "target"]


def simulation_of(alignment: float, n_perturbations: int, seed: int, **changes: int) -> tuple[Simulation, float]:
    """What :func:`simulate_screen` draws for a seed, and the effect size."""
    defaults = {name: one.default for name, one in inspect.signature(simulate_screen).parameters.items()}
    options = defaults | changes | {"n_perturbations": n_perturbations, "alignment": alignment}
    del options["seed"]
    return draw_simulation(np.random.default_rng(seed), **options), options["effect_size"]


def population_effects(simulation: Simulation, activity: np.ndarray) -> np.ndarray:
    """Of shifts of the module activities (n, M), no gene shifted on its own: (n, G)."""
    no_genes = np.zeros((len(activity), len(simulation.mechanism.var)))
    others = replace(simulation, mechanism=replace(simulation.mechanism, effects=Effects(activity, no_genes)))
    return effects_in(others, np.random.default_rng(0))  # of the states that it integrates over


def knowable(simulation: Simulation, alignment: float, effect_size: float) -> np.ndarray:
    """Mean effect of a knock-out in each module (M, G) over the unrelated module and the strength."""
    regulation = simulation.mechanism.genome.regulation
    unrelated = regulation if alignment < 1 else regulation[:1]  # without weight one stands for all
    mixed = mixed_shift(regulation[:, None], unrelated, alignment)
    strength = effect_size * np.exp(LOG_STRENGTH_SD * STRENGTH_NODES)
    activity = strength[:, None, None, None] * mixed
    effects = population_effects(simulation, activity.reshape(-1, len(regulation))).reshape(*activity.shape[:3], -1)
    return np.average(effects.mean(axis=2), axis=0, weights=STRENGTH_WEIGHTS)


def rows_of(alignment: float, n_perturbations: int, seed: int, options: argparse.Namespace) -> list[dict]:
    changes = {"n_genes": 150} if options.quick else {}
    screen = simulated(alignment, n_perturbations, seed, **changes)
    simulation, effect_size = simulation_of(alignment, n_perturbations, seed, **changes)
    modules, truth = simulation.mechanism, screen.reference.to_numpy()
    predicted = {
        "knowable": knowable(simulation, alignment, effect_size)[modules.genome.module[modules.targets]],
        "all but genes": population_effects(simulation, modules.effects.activity),
    }
    rows = []
    for names in folds_of(screen, options, seed):
        chosen = screen.reference.index.get_indexer(names)
        of_all = np.delete(truth, chosen, axis=0).mean(axis=0)
        own = np.arange(truth.shape[1]) == modules.targets[chosen, None]
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
