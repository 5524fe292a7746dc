"""Do the networks keep something of the references that left-out evidence does not see?

    python benchmarks/network_leak.py --screen simulated --alignment 1 0.5 0 --seeds 1
    python benchmarks/network_leak.py --screen sergio --seeds 3 --k-fold

Gene space, axes and strategies of a reference are made without its fold, but VAE and diffusion have seen its cells. For every
predictor ``left out`` is the squared error of the references over the mean's, as the tuning sees it, and ``held out`` that of
perturbations on which nothing was trained, VAE included. Linear predictors know no network. A leak shows as a generator whose
errors come out worse than promised by more than theirs: ``leak`` is the generator's ratio of held out to left out over that
of nearest neighbours, where both are given; above one the networks leak. ``retrained`` (with ``--k-fold``) is the generator's
left-out error with the diffusion retrained without each fold. Known noise is taken out of all errors.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _results import write
from _screens import Screen, folds_of, screen_arguments, screens_of, seeds_of, trained

from dbdiffusion.data import hold_out
from dbdiffusion.inference import squared_errors
from dbdiffusion.predict import GenerationOptions, Recipe, predictions, references_of

if TYPE_CHECKING:
    import argparse

    from dbdiffusion import DBDiffusion


def trial(screen: Screen, held_out: list[str], seed: int, options: argparse.Namespace) -> list[dict]:
    """A row for every predictor and perturbation, left out or held out."""
    rest, _ = hold_out(screen.train, held_out)
    model = trained(rest, screen, seed, options)
    rows = left_out(model, "embedding", seed, "left out")
    if options.k_fold:
        model.cross_fit(max_epochs=3 if options.quick else None)
        retrained = left_out(model, "k_fold", seed, "retrained")
        rows += [row for row in retrained if row["predictor"] in ("generated", "mean")]
    rows += realised(screen, held_out, model, seed)
    return [{"screen": screen.name, "seed": seed, **row} for row in rows]


def left_out(model: DBDiffusion, cross_fitting: str, seed: int, what: str) -> list[dict]:
    pool = model.predictor().references(Recipe(GenerationOptions(seed=seed), cross_fitting=cross_fitting))
    references = references_of(model.predictor(), pool, np.flatnonzero(pool.is_placed)).without_own_genes()
    effect = references.effect
    predictors = references.predicted | {"mean": (effect.sum(axis=0) - effect) / (len(effect) - 1)}
    known = (references.variance, references.control_variance)
    return [
        {"what": what, "predictor": name, "target": pool.names[i], "error": float(error)}
        for name, predicted in predictors.items()
        for i, error in zip(
            np.flatnonzero(pool.is_placed),
            squared_errors(effect, predicted, *known, references.control_share.get(name, 1.0)),
            strict=True,
        )
    ]


def realised(screen: Screen, names: list[str], model: DBDiffusion, seed: int) -> list[dict]:
    predictor = model.predictor()
    recipe = Recipe(GenerationOptions(seed=seed))
    predicted, _ = predictions(predictor, predictor.generator, [(predictor.space, names)], recipe)
    predicted["mean"] = np.stack([model.baseline_effects(name)["mean"] for name in names])
    predicted["default"] = model.predict_effects(names, seed=seed)["effect"].to_numpy().reshape(len(names), -1)
    others = np.stack([~screen.reference.columns.isin(name.split("+")) for name in names])
    reference, noise = screen.reference.loc[names].to_numpy(), screen.noise.loc[names].to_numpy()
    return [
        {"what": "held out", "predictor": predictor, "target": target, "error": float(error)}
        for predictor, values in predicted.items()
        for target, error in zip(names, np.where(others, (values - reference) ** 2 - noise, 0).sum(axis=1), strict=True)
    ]


def summarise(rows: list[dict]) -> pd.DataFrame:
    """Ratios of sums over all hold-outs of a screen."""
    frame = pd.DataFrame(rows)
    sums = frame.pivot_table(index=["screen", "what"], columns="predictor", values="error", aggfunc="sum")
    ratio = sums.div(sums["mean"], axis=0).drop(columns="mean").stack().unstack("what")
    table = ratio.unstack("predictor").swaplevel(axis=1).sort_index(axis=1)
    gap = {name: table[name, "held out"] / table[name, "left out"] for name in ("generated", "knn") if name in table}
    if len(gap) == 2:
        table["generated", "leak"] = gap["generated"] / gap["knn"]
    return table


def main() -> None:
    parser = screen_arguments(__doc__)
    parser.add_argument("--k-fold", action="store_true", help="retrain the diffusion without each fold, too")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        for screen in screens_of(options, seed):
            for held_out in folds_of(screen, options, seed):
                rows += trial(screen, held_out, seed, options)
                file = write(f"network_leak_{options.screen}", rows, options)
            print(summarise(rows).round(3).T.to_string(), flush=True)
    print("written:", file.name)


if __name__ == "__main__":
    main()
