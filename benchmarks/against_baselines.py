"""Is the prediction of an unseen perturbation ever worse than a simple one, and how much better is it?

    python benchmarks/against_baselines.py --screen simulated --alignment 1 0.5 0 --n-perturbations 60 --n-held-out 13
    python benchmarks/against_baselines.py --screen simulated --alignment 1 0.5 0 --n-perturbations 200 --n-held-out 40
    python benchmarks/against_baselines.py --screen renge
    python benchmarks/against_baselines.py --screen network --seeds 3
    python benchmarks/against_baselines.py --screen sergio --seeds 3 --network-seeds 0 1 2
    python benchmarks/against_baselines.py --screen norman-doubles

Folds are of perturbations, never of cells: nothing of a held-out perturbation is used. Each seed of the simulation is a screen
of its own; with 60 perturbations all are held out in turn, in five folds, with 200 one fold of 40 is. Of a real screen every
fold is held out, and control cells are halved between model and observation. The target's own gene is left out. `paper` is the
paper's estimator on our generator (guidance 2.5, 1,000 ancestral steps, 128 cells). `own_module` is told the simulator's
modules, `measured` is what measuring would have given (real screens: half of the cells against the other half), `oracle` the
generator handed the target's true embedding (simulated screens only). `pearson_mean` and its kin compare deviations from the
mean of the measured perturbations, all of them contrasted with the same control cells or, where it is known, with the truth.
`discrimination` is among the perturbations of a fold. `mse/mean` and `mse/best` (the best simple baseline on this screen) are
ratios of squared errors, less the noise of the observation, with 95 % intervals from resampling perturbations.
"""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _held_out import Truth, ratio_with_interval, screens_or_doubles_of, truth_of
from _results import write
from _screens import (
    Screen,
    folds_of,
    network_seeds_argument,
    network_seeds_of,
    screen_arguments,
    seeds_of,
    trained,
)
from sklearn.decomposition import PCA

from dbdiffusion.data import hold_out
from dbdiffusion.metrics import effect_scores, energy_distance, mmd_rbf
from dbdiffusion.predict import GenerationOptions
from dbdiffusion.screen import log1p_cp10k

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    import anndata as ad

    from dbdiffusion import DBDiffusion

PAPER = {"guidance_scale": 2.5, "sampler": "ddpm", "n_steps": 1000}
SIMPLE = ("zero", "mean", "cluster", "knn", "ridge", "additive")
OWN_MODULE_PRIOR = 1.0  # perturbations that the mean of all counts for beside those of the module
SHOWN = ("mse", "pearson", "pearson_mean", "pearson_mean_top20", "pearson_mean_top100", "discrimination", "sign_agreement")


@dataclass(frozen=True)
class Fold:
    """A model trained without some perturbations."""

    model: DBDiffusion
    names: list[str]
    own_effects: np.ndarray | None
    seed: int
    quick: bool


@dataclass
class Results:
    """Predictions of every method over the folds of a screen, by perturbation."""

    folds: list[list[str]] = field(default_factory=list)
    effect: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    cells: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    mean_effect: dict[str, np.ndarray] = field(default_factory=dict)


def zero(fold: Fold) -> np.ndarray:
    return np.zeros_like(mean(fold))


def mean(fold: Fold) -> np.ndarray:
    return np.repeat(fold.model.predictor().screen.observed.effect.mean(axis=0)[None], len(fold.names), axis=0)


def placed_by(strategy: str) -> Callable[[Fold], np.ndarray | None]:
    def predict(fold: Fold) -> np.ndarray | None:
        space = fold.model.predictor().space.with_ranking((strategy,), places_anything=False)
        single = all(len(space.parts(name)) == 1 for name in fold.names)
        return space.predict_effect(fold.names) if single and all(map(space.can_embed, fold.names)) else None

    return predict


def cluster(fold: Fold) -> np.ndarray | None:
    if placed_by("cluster")(fold) is None:
        return None
    space, observed = fold.model.predictor().space.with_ranking(("cluster",)), fold.model.predictor().screen.observed.effect
    return np.stack([observed[located].mean(axis=0) for located in space.located(fold.names)])


def additive(fold: Fold) -> np.ndarray | None:
    space, observed = fold.model.predictor().space, fold.model.predictor().screen.observed.effect
    rows = [[space.row(part) for part in space.parts(name)] for name in fold.names]
    if any(len(parts) < 2 or None in parts for parts in rows):
        return None
    return np.stack([observed[parts].sum(axis=0) for parts in rows])


def from_table(**options) -> Callable[[Fold], np.ndarray]:
    def predict(fold: Fold) -> np.ndarray:
        table = fold.model.predict_effects(fold.names, seed=fold.seed, **options)
        return table["effect"].to_numpy().reshape(len(fold.names), -1)

    return predict


def paper(fold: Fold) -> np.ndarray | None:
    if not all(placeable_by_cluster(fold, name) for name in fold.names):
        return None
    n_cells = {"n_cells": 8 if fold.quick else 128}
    return from_table(method="paper", **PAPER | ({"n_steps": 10} if fold.quick else {}), **n_cells)(fold)


def generate(fold: Fold, embedding: np.ndarray) -> np.ndarray:
    predictor = fold.model.predictor()
    return predictor.generator.effects(embedding, predictor.space.control, 512, GenerationOptions(seed=fold.seed))[0]


def generated(fold: Fold) -> np.ndarray:
    return generate(fold, fold.model.predictor().space.embed(fold.names))


def oracle(fold: Fold) -> np.ndarray | None:
    if fold.own_effects is None:  # an observed effect would be told the noise that it is scored against
        return None
    return generate(fold, fold.model.predictor().space.effects.to_embedding(fold.own_effects))


def own_module(fold: Fold) -> np.ndarray | None:
    """Mean over the target's true module, shrunk towards the mean of all: co-expression cannot say more of a module."""
    genes = fold.model.adata.var
    if "module" not in genes:
        return None
    space, observed = fold.model.predictor().space, fold.model.predictor().screen.observed.effect
    module = genes["module"].reindex(space.names).to_numpy()
    shared = observed.mean(axis=0)
    members = [observed[module == genes.loc[name, "module"]] for name in fold.names]
    return np.stack([(m.sum(axis=0) + OWN_MODULE_PRIOR * shared) / (len(m) + OWN_MODULE_PRIOR) for m in members])


METHODS = {
    "zero": zero,
    "mean": mean,
    "cluster": cluster,
    "knn": placed_by("knn"),
    "ridge": placed_by("ridge"),
    "additive": additive,
    "paper": paper,
    "generated": generated,
    "dbdiffusion": from_table(),
    "oracle": oracle,
    "own_module": own_module,
}


def run_fold(screen: Screen, names: list[str], seed: int, options: argparse.Namespace, results: Results) -> None:
    rest, held_out = hold_out(screen.train, names)
    model = trained(rest, screen, seed, options)
    fold = Fold(model, names, None if screen.is_noisy else screen.reference.loc[names].to_numpy(), seed, options.quick)
    results.folds.append(names)
    of_all = mean(fold)[0] if screen.is_noisy else screen.reference.drop(index=names).mean().to_numpy()
    results.mean_effect |= dict.fromkeys(names, of_all)
    for method in options.methods:
        start = time.perf_counter()
        predicted = METHODS[method](fold)
        if predicted is None:
            continue
        spent = (time.perf_counter() - start) / len(names)
        results.effect.setdefault(method, {}).update(zip(names, predicted, strict=True))
        results.seconds.setdefault(method, {}).update(dict.fromkeys(names, spent))
    compare_cells(fold, rest, held_out, options.methods, results)


def compare_cells(fold: Fold, rest: ad.AnnData, held_out: ad.AnnData, methods: list[str], results: Results) -> None:
    """Distances of generated cells, control cells and perturbed training cells to the held-out cells, equal numbers of each."""
    rng = np.random.default_rng(fold.seed)
    axes = PCA(30, random_state=0).fit(logged(rest[rng.permutation(rest.n_obs)[:3000]]))
    is_control = (rest.obs["perturbation"] == "control").to_numpy()
    for name in fold.names:
        real_cells = axes.transform(logged(held_out[(held_out.obs["perturbation"] == name).to_numpy()]))
        real_cells = rng.permutation(real_cells)
        n = len(real_cells) // 2
        if n < 10:
            continue
        samples = {"measured": real_cells[n:]}
        for method, rows in {"zero": np.flatnonzero(is_control), "mean": np.flatnonzero(~is_control)}.items():
            samples[method] = axes.transform(logged(rest[np.sort(rng.choice(rows, n, replace=len(rows) < n))]))
        options = {"paper": PAPER | ({"n_steps": 10} if fold.quick else {})}
        for method in {"generated", "paper"} & set(methods):
            if method == "paper" and not placeable_by_cluster(fold, name):
                continue
            samples[method] = axes.transform(logged(fold.model.generate(name, n, seed=fold.seed, **options.get(method, {}))))
        for method, cells in samples.items():
            distances = {"energy": energy_distance(cells, real_cells[:n]), "mmd": mmd_rbf(cells, real_cells[:n])}
            results.cells.setdefault(method, {})[name] = distances


def placeable_by_cluster(fold: Fold, name: str) -> bool:
    """Whether the paper's rule says where it lies: it speaks of single genes."""
    space = fold.model.predictor().space.with_ranking(("cluster",), places_anything=False)
    return len(space.parts(name)) == 1 and space.can_embed(name)


def logged(cells: ad.AnnData) -> np.ndarray:
    library = np.asarray(cells.X.sum(axis=1)).ravel()
    return log1p_cp10k(cells.X, library).toarray()


def score(screen: Screen, truth: Truth, results: Results, seed: int) -> list[dict]:
    compared = {method: (values, truth.reference, truth.same_control) for method, values in results.effect.items()}
    measured = {name: row.to_numpy() for name, row in truth.measured.iterrows()}
    compared["measured"] = (measured, truth.measured_against, truth.measured_same_control)
    rows = []
    for method, (predicted, reference, same_control) in compared.items():
        for fold in results.folds:
            names = [name for name in fold if name in predicted]
            if not names:
                continue
            own = np.stack([screen.reference.columns.isin(name.split("+")) for name in names])
            scores = scores_of(predicted, reference, truth.significant, own, names, results.mean_effect)
            centred = scores_of(predicted, same_control, truth.significant, own, names, results.mean_effect)
            scores |= {metric: values for metric, values in centred.items() if metric.startswith("pearson_mean")}
            noise = np.nanmean(np.where(own, np.nan, truth.noise.loc[names].to_numpy()), axis=1)
            for i, name in enumerate(names):
                row = {"screen": screen.name, "seed": seed, "method": method, "target": name, "noise": float(noise[i])}
                row |= {metric: float(values[i]) for metric, values in scores.items()}
                row |= results.cells.get(method, {}).get(name, {})
                rows.append(row | {"seconds": results.seconds.get(method, {}).get(name, np.nan)})
    return rows


def scores_of(
    predicted: dict[str, np.ndarray],
    reference: pd.DataFrame,
    significant: pd.DataFrame,
    own: np.ndarray,
    names: list[str],
    mean_effect: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    effect, of_all = (np.stack([values[name] for name in names]) for values in (predicted, mean_effect))
    return effect_scores(effect, reference.loc[names].to_numpy(), of_all, significant.loc[names].to_numpy(), own)


def summarise(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    frame["excess"] = frame["mse"] - np.where(frame["method"] == "measured", 0.0, frame["noise"])
    tables = {screen: table_of(part) for screen, part in frame.groupby("screen", sort=False)}
    return pd.concat(tables, names=["screen"])


def table_of(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a method; a perturbation that several models were trained without counts once, on average."""
    keys = ["target"] if frame["noise"].any() else ["seed", "target"]
    columns = [column for column in (*SHOWN, "energy", "mmd", "excess", "seconds") if column in frame]
    per_target = frame.groupby(["method", *keys], sort=False)[columns].mean()
    means = per_target.groupby("method", sort=False).mean()
    error = per_target["excess"].unstack("method")
    simple = [method for method in SIMPLE if method in means.index]
    best = min(simple, key=lambda method: means.loc[method, "mse"]) if simple else None
    rows = {}
    for method in means.index:
        row = means.loc[method].drop("excess").to_dict()
        for label, baseline in {"mse/mean": "mean", "mse/best": best}.items():
            if baseline in error and method not in ("measured", baseline):
                ratio, low, high = ratio_with_interval(*error[[method, baseline]].dropna().to_numpy().T)
                row |= {label: ratio, f"{label} low": low, f"{label} high": high}
        rows[method + (" (best)" if method == best else "")] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def main() -> None:
    parser = screen_arguments(__doc__, "norman-doubles")
    network_seeds_argument(parser)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        for screen in screens_or_doubles_of(options, seed):
            truth = truth_of(screen, seed)
            for network_seed in network_seeds_of(options, seed):
                results = Results()
                for names in folds_of(screen, options, seed):
                    run_fold(screen, names, network_seed, options, results)
                rows += [row | {"network_seed": network_seed} for row in score(screen, truth, results, seed)]
            file = write(f"against_baselines_{options.screen}", rows, options)
            print(summarise(rows).round(3).to_string(), flush=True)
    print("written:", file.name)


if __name__ == "__main__":
    main()
