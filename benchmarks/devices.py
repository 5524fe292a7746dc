"""What does each device of the tuning earn? The same networks and left-out references, tuned with and without it.

    python benchmarks/devices.py --screen renge --models MODELS
    python benchmarks/devices.py --screen simulated --n-perturbations 60

Rows of devices that are gone (a slope with its jackknife, a bound on the generator's weight, a choice of reference sets, errors
as moderated, one standard deviation more than the control's error is expected to be) are in the committed results of the commit
before each was removed, see docs/decisions/control_error.md. Where the control's error is not taken out, it is charged for.

Networks are trained once a hold-out; of its left-out references and predicted targets the rectifier is fitted anew for every
row. ``mse / best`` is the squared error over the better of mean and zero, noise of the observation taken out, hold-outs
pooled; ``se`` of its difference to the default's is over perturbations. Then the share of effects that 50, 80 and 95 %
intervals hold, and the interval score over the default's.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _held_out import screens_or_doubles_of
from _rectified import Rectified
from _results import write
from _scores import each_once, score
from _screens import Screen, folds_of, in_folds, screen_arguments, seeds_of, trained
from evidence import PREDICTORS, Believed

from dbdiffusion.data import hold_out
from dbdiffusion.embedding import fit_space
from dbdiffusion.inference import fit_rectifier
from dbdiffusion.metrics import error_ratio
from dbdiffusion.predict import GENERATED, GenerationOptions, Recipe

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from dbdiffusion.inference import Estimate, References

    Device = Callable[[References], References]


def _generator_carries(share: float) -> Device:
    return lambda observed: replace(observed, control_share={GENERATED: share}).corrected()


DEVICES: dict[str, Device] = {
    "default": lambda observed: observed.corrected(),
    "control's error not taken out": lambda observed: observed,
    "generator carries half of the control's error": _generator_carries(0.5),
    "generator carries all of it": _generator_carries(1.0),
}
NETWORK_FREE = ("default", "control's error not taken out")


def trial(screen: Screen, held_out: list[str], seed: int, options: argparse.Namespace) -> list[dict]:
    """One hold-out by every row."""
    rest, _ = hold_out(screen.train, held_out)
    model = trained(rest, screen, seed, options)
    rectified = Rectified(model.predictor(), held_out, Recipe(GenerationOptions(seed=seed)))
    baselines = {name: model.baseline_effects(name) for name in held_out}
    genes, rows = np.asarray(model.predictor().screen.var_names), []
    for device, made in DEVICES.items():
        estimate, weight = rectified.estimate(fit_rectifier, made(rectified.as_observed))
        for name, table in tables(estimate, held_out, genes, weight, screen):
            rows.append({"device": device, "target": name, **score(screen, name, table, baselines[name], model)})
    return [{"screen": screen.name, "seed": seed, **row} for row in rows]


def tables(
    estimate: Estimate, names: list[str], genes: np.ndarray, weight: float, screen: Screen
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Effects of each target as scores ask for them, genes in the order of the screen's reference."""
    df = np.broadcast_to(estimate.df, estimate.effect.shape)
    order = pd.Index(genes).get_indexer(screen.reference.columns)
    for i, name in enumerate(names):
        columns = {"effect": estimate.effect[i], "se": estimate.se[i], "df": df[i]}
        table = pd.DataFrame({"variable": genes, **columns, "lam": weight, "adj_p_value": 1.0})
        yield name, table.iloc[order]


class NoModel:
    """What scores ask of a model."""

    def parts_of(self, name: str) -> tuple[str, ...]:
        """Of a name; every screen here joins by "+"."""
        return tuple(name.split("+"))


def network_free(screen: Screen, held_out: list[str], seed: int, _options: argparse.Namespace) -> list[dict]:
    """One hold-out by every row that does not speak of the generator, with ridge and nearest neighbours alone."""
    rest, _ = hold_out(screen.train, held_out)
    believed = Believed.of(rest, screen.setup)
    measured = believed.spaces.screen
    held_out = [name for name in held_out if name in measured.var_names]
    space = fit_space(measured.names, measured.observed, measured.genes, 32, (*PREDICTORS, "mean"))
    predicted = {kind: space.with_ranking((kind, "mean")).predict_effect(held_out) for kind in PREDICTORS}
    genes = np.asarray(measured.var_names)
    mean = measured.observed.effect.mean(axis=0)[pd.Index(genes).get_indexer(screen.reference.columns)]
    baseline, rows = {"mean": mean, "zero": 0 * mean}, []
    for device in NETWORK_FREE:
        made = DEVICES[device](believed.as_observed)
        estimate = fit_rectifier(made).estimate(made.of_targets(predicted))
        for name, table in tables(estimate, held_out, genes, 0.0, screen):
            rows.append({"device": device, "target": name, **score(screen, name, table, baseline, NoModel())})
    return [{"screen": screen.name, "seed": seed, **row} for row in rows]


def summarise(rows: list[dict]) -> pd.DataFrame:
    tables = {}
    for name, part in each_once(rows, "device").groupby("screen", sort=False):
        default = part[part["device"] == "default"].set_index(["sample", "target"])
        for device, of_it in part.groupby("device", sort=False):
            of_it = of_it.set_index(["sample", "target"]).reindex(default.index)
            error = {kind: (of_it[kind] - of_it["noise"]) for kind in ("mse", "mse_mean", "mse_zero")}
            best = min(("mse_mean", "mse_zero"), key=lambda kind: error[kind].sum())
            gain = (of_it["mse"] - default["mse"]).to_numpy()
            tables[name, device] = {
                "mse / best": error_ratio(error["mse"].to_numpy(), error[best].to_numpy())[0],
                "less default": gain.sum() / error[best].sum(),
                "se": gain.std(ddof=1) * np.sqrt(len(gain)) / error[best].sum() if len(gain) > 1 else np.nan,
                **{f"{100 * level:.0f} %": of_it[f"coverage_{level:g}"].mean() for level in (0.5, 0.8, 0.95)},
                "interval score": of_it["interval_score"].mean() / default["interval_score"].mean(),
            }
    return pd.DataFrame(tables).T.rename_axis(["screen", "device"])


def main() -> None:
    parser = screen_arguments(__doc__, "norman-doubles")
    parser.add_argument("--network-free", action="store_true", help="ridge and neighbours alone, every perturbation held out")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        for screen in screens_or_doubles_of(options, seed):
            one = network_free if options.network_free else trial
            folds = in_folds(screen.candidates, options, seed) if options.network_free else folds_of(screen, options, seed)
            for held_out in folds:
                rows += one(screen, held_out, seed, options)
                file = write(f"devices_{options.screen}", rows, options)
            print(summarise(rows).round(3).to_string(), flush=True)
    print("written:", file.name)


if __name__ == "__main__":
    main()
