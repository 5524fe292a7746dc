"""Do intervals along a direction over genes hold, and are the perturbations that are said to go there right?

    python benchmarks/projections.py --screen simulated --n-perturbations 60
    python benchmarks/projections.py --screen renge --folds 23
    python benchmarks/projections.py --screen norman --folds 18 --confidence 0.9
    python benchmarks/projections.py --screen simulated --n-perturbations 200 --alignment 1 --genome
    python benchmarks/projections.py --screen simulated --n-perturbations 200 --alignment 1 --genome --trained --models models

Without ``--trained`` no network takes part (predictors: ridge and nearest neighbours in gene space). Perturbations are held
out of everything in folds, and are the candidates. Directions: single genes, random signatures of 30 genes, and module
signatures (the mean of a co-expression module; on real screens of a cluster of gene space), the five largest and the ``strong``
one, along which the references' observed effects vary most. ``coverage`` is of the truth, on
real screens of the observation against control cells set apart: ``plus`` of the jackknife+, ``plain`` of the same with one
prediction. ``error`` is squared, over that of zero. Hits are candidates beyond ``c`` upwards (no and half a standard deviation
of the references' scalars), ``false`` their false discovery proportion, ``found`` the share of the true ones found. ``head``:
precision of the first tenth and fifth of the ranking, as said and as it came out. ``--genome``: 1,000 perturbations are
simulated, all but ``--n-perturbations`` of which are candidates.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _held_out import screens_or_doubles_of
from _rectified import Rectified
from _results import write
from _screens import Screen, in_folds, screen_arguments, seeds_of, shuffled, simulated, trained
from evidence import PREDICTORS, Believed

from dbdiffusion.data import hold_out
from dbdiffusion.embedding import fit_space
from dbdiffusion.inference import fit_rectifier, hits, left_out_rules, project
from dbdiffusion.predict import GenerationOptions, Recipe

if TYPE_CHECKING:
    import argparse

    from dbdiffusion.inference import References
    from dbdiffusion.screen import Screen as MeasuredScreen

LEVELS = (0.1, 0.2)
DISTANCES = (0.0, 0.5)  # standard deviations of the references' scalars
N_GENES, N_RANDOM, N_MODULES = 20, 20, 5
GENOME = 1000


def directions_of(screen: Screen, measured: MeasuredScreen, seed: int) -> dict[str, np.ndarray]:
    """Weights (G,) by kind and number."""
    rng = np.random.default_rng(seed)
    n_genes = len(measured.var_names)
    listable = np.flatnonzero(measured.is_listable)
    found = {f"gene {i}": np.eye(1, n_genes, gene)[0] for i, gene in enumerate(rng.choice(listable, N_GENES, replace=False))}
    for i in range(N_RANDOM):
        weights = np.zeros(n_genes)
        chosen = rng.choice(listable, min(30, len(listable) // 2), replace=False)
        weights[chosen] = rng.standard_normal(len(chosen)) / np.sqrt(len(chosen))
        found[f"random {i}"] = weights
    module = screen.train.var["module"].to_numpy() if "module" in screen.train.var else measured.genes.clusters
    signatures = {one: (module == one) / (module == one).sum() for one in pd.Series(module).value_counts().index}
    found |= {f"module {i}": weights for i, weights in enumerate(list(signatures.values())[:N_MODULES])}
    return found | {"strong 0": max(signatures.values(), key=lambda weights: (measured.observed.effect @ weights).std())}


def told(
    screen: Screen, held_out: list[str], seed: int, options: argparse.Namespace
) -> tuple[MeasuredScreen, References, dict[str, np.ndarray]]:
    """What was measured, the references, and what predictors say of what was held out."""
    rest, _ = hold_out(screen.train, held_out)
    if options.trained:
        predictor = trained(rest, screen, seed, options).predictor()
        rectified = Rectified(predictor, held_out, Recipe(GenerationOptions(seed=seed)))
        return predictor.screen, rectified.references, rectified.predicted
    believed = Believed.of(rest, screen.setup)
    measured = believed.spaces.screen
    space = fit_space(measured.names, measured.observed, measured.genes, 32, (*PREDICTORS, "mean"), places_anything=True)
    predicted = {kind: space.with_ranking((kind, "mean")).predict_effect(held_out) for kind in PREDICTORS}
    return measured, believed.references, predicted


def trial(screen: Screen, held_out: list[str], seed: int, options: argparse.Namespace) -> list[dict]:
    """One hold-out; a row a direction."""
    measured, references, raw = told(screen, held_out, seed, options)
    predicted = references.of_targets(raw)
    rectifier = fit_rectifier(references)
    rules = left_out_rules(rectifier, references)
    effect = rectifier.estimate(predicted).effect
    truth = screen.reference.loc[held_out].to_numpy()
    own = np.stack([screen.reference.columns == name for name in held_out])
    rows = []
    for name, weights in directions_of(screen, measured, seed).items():
        projection = project(rules, weights, measured.halves)
        aimed = effect @ weights
        came = np.where(own, effect, truth) @ weights  # its own gene is not predicted and does not count
        row = {"kind": name.split()[0], "n": len(held_out), "K": projection.n_reference}
        each = rules.along(weights, predicted)
        for label, centre in (("plus", each), ("plain", aimed)):
            low, high = projection.interval(centre, options.confidence)
            row |= {f"coverage {label}": float(((low <= came) & (came <= high)).mean()), "width": float((high - low).mean())}
        row["error"] = float(np.mean((came - aimed) ** 2) / np.mean(came**2))
        for distance in DISTANCES:
            c = distance * float(projection.observed.std())
            q = hits(projection.p_values(each, c))
            for level in LEVELS:
                called, true = q <= level, came > c
                tag = f"c={distance:g} {level:g}"
                row |= {f"hits {tag}": int(called.sum()), f"false {tag}": float((called & ~true).sum() / max(called.sum(), 1))}
                row[f"found {tag}"] = float((called & true).sum() / max(true.sum(), 1))
        head, best = projection.head(), np.argsort(-aimed)
        for share in (0.1, 0.2):
            said = head.loc[np.isclose(head["share"], share), "precision"]
            n = max(1, round(share * len(held_out)))
            row |= {f"head {share:g} said": float(said.iloc[0]) if len(said) else np.nan}
            row |= {f"head {share:g} came": float((came[best[:n]] > 0).mean())}
        rows.append(row)
    return rows


def hold_outs(screen: Screen, options, seed: int) -> list[list[str]]:
    if options.genome:
        return [shuffled(screen.candidates, seed)[options.n_perturbations[0] :]]
    return in_folds(screen.candidates, options, seed)


def summarise(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    groups = frame.groupby(["screen", "kind"], sort=False)
    table = groups.mean(numeric_only=True).drop(columns=["seed", "fold"])
    clusters = frame.groupby(["screen", "kind", "seed", "fold"], sort=False).mean(numeric_only=True)
    for column in ("coverage plus", *(c for c in frame if c.startswith("false"))):
        table[f"se {column}"] = clusters[column].groupby(["screen", "kind"], sort=False).sem()
    return table


def main() -> None:
    parser = screen_arguments(__doc__, "norman-doubles")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals; 95 %% needs 19 references")
    parser.add_argument("--genome", action="store_true", help="many candidates of a simulated screen")
    parser.add_argument("--trained", action="store_true", help="with networks, trained with the defaults")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        if options.genome:
            screens = [simulated(alignment, GENOME, seed) for alignment in options.alignment]
        else:
            screens = screens_or_doubles_of(options, seed)
        for screen in screens:
            for fold, held_out in enumerate(hold_outs(screen, options, seed)):
                where = {"screen": screen.name, "seed": seed, "fold": fold}
                rows += [where | row for row in trial(screen, held_out, seed, options)]
            name = "genome" if options.genome else options.screen
            file = write(f"projections_{name}{'_trained' if options.trained else ''}", rows, options)
            print(summarise(rows).round(3).T.to_string(), flush=True)
    print("written:", file.name)


if __name__ == "__main__":
    main()
