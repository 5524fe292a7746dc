"""Is the default ever worse than the better of "the mean of the measured perturbations" and "no effect"?

    python benchmarks/never_worse.py --screen sergio --seeds 3
    python benchmarks/never_worse.py --screen network

Perturbations are held out of everything, networks trained with the defaults. ``mse / best`` is the squared error over that of
the better of mean and zero, the noise of the observation taken out, hold-outs pooled; ``se`` is its standard error over
perturbations, ``believed`` what left-out references promised (``mse / mean``, mean over hold-outs). Intervals: the share of
true effects that 50, 80 and 95 % intervals hold, ``se 95`` clustered by perturbation; ``measured``: the share of what measuring
the perturbation shows (its noise and the interval together), as real screens are always compared. An interval around zero
holds every gene that does not change at all, so where these are nine of ten (networks) 50 % intervals must hold 90 % of the
true effects, and only of the measured ones can they hold half. A perturbation that was held out under several splits or
networks counts once.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import pandas as pd
from _held_out import as_measured, screens_or_doubles_of
from _results import write
from _scores import LEVELS, each_once, score
from _screens import (
    Screen,
    folds_of,
    network_seeds_argument,
    network_seeds_of,
    screen_arguments,
    seeds_of,
    trained,
)

from dbdiffusion.data import hold_out
from dbdiffusion.inference import left_out_evidence
from dbdiffusion.metrics import error_ratio
from dbdiffusion.predict import GenerationOptions, Recipe

if TYPE_CHECKING:
    import argparse


def trial(screen: Screen, measured: Screen, held_out: list[str], seed: int, options: argparse.Namespace) -> list[dict]:
    """Train without some perturbations, predict them, score each against the truth and against what measuring shows."""
    rest, _ = hold_out(screen.train, held_out)
    model = trained(rest, screen, seed, options)
    table = model.predict_effects(held_out, seed=seed)
    kind = "combination" if len(model.parts_of(held_out[0])) > 1 else "single"
    fitted = model.predictor().fitted(Recipe(GenerationOptions(seed=seed)), kind)
    believed = left_out_evidence(fitted.rectifier, fitted.references).ratio("mean")[0]
    rows = []
    for name, block in table.groupby("target", sort=False):
        baseline = model.baseline_effects(str(name))
        row = score(screen, str(name), block, baseline, model)
        again = score(measured, str(name), block, baseline, model)
        row |= {f"measured_{level:g}": again[f"coverage_{level:g}"] for level in LEVELS}
        weight = sum(sum(weights.values()) for weights in table.attrs["weights"].values())
        rows.append({"screen": screen.name, "target": name, "believed": believed, "weights": weight} | row)
    return rows


def summarise(rows: list[dict]) -> pd.DataFrame:
    tables = {}
    for name, part in each_once(rows).groupby("screen", sort=False):
        error = {kind: (part[kind] - part["noise"]).to_numpy() for kind in ("mse", "mse_mean", "mse_zero")}
        best = min(("mse_mean", "mse_zero"), key=lambda kind: error[kind].sum())
        ratio, se = error_ratio(error["mse"], error[best])
        tables[name] = {
            "targets": len(part),
            "mse / best": ratio,
            "se": se,
            **{f"mse / {kind}": error_ratio(error["mse"], error[f"mse_{kind}"])[0] for kind in ("mean", "zero")},
            "believed": part["believed"].mean(),
            "weights": part["weights"].mean(),
            **{f"{100 * level:.0f} %": part[f"coverage_{level:g}"].mean() for level in LEVELS},
            "se 95": part["coverage_0.95"].sem(),
            **{f"measured {100 * level:.0f} %": part[f"measured_{level:g}"].mean() for level in LEVELS},
            "se 50": part["measured_0.5"].sem(),
        }
    return pd.DataFrame(tables).T.rename_axis("screen")


def main() -> None:
    parser = screen_arguments(__doc__, "norman-doubles")
    network_seeds_argument(parser)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        for screen in screens_or_doubles_of(options, seed):
            measured = as_measured(screen)
            for held_out in folds_of(screen, options, seed):
                for network_seed in network_seeds_of(options, seed):
                    rows += [row | {"seed": seed} for row in trial(screen, measured, held_out, network_seed, options)]
                    file = write(f"never_worse_{options.screen}", rows, options)
            print(summarise(rows).round(3).to_string(), flush=True)
    print("written:", file.name)


if __name__ == "__main__":
    main()
