"""Are suggested perturbations better to measure next than random ones?

    python benchmarks/suggest.py
    python benchmarks/suggest.py --screen network
    python benchmarks/suggest.py --first-seed 100 --seeds 3 --rules "variance" "variance .3" facility  # to choose the rule

No network is trained. Of a screen 20 perturbations are measured; 10 more are chosen, measured, and 10 more. All others are then
predicted (ridge and neighbours in gene space, stacked and rectified), and their squared error against the truth is held against
that after 20 random ones, the mean of four draws: mean of the ratios over screens, and its standard error. ``knn`` is the same
of nearest neighbours alone. Where there is no truth, observed effects stand for it, and their noise is taken off. Rules, all
greedy and on the cosines of gene vectors: ``variance`` (a Gaussian process whose covariance is the cosine: what takes most
uncertainty from all candidates; the rule of the package. A number is the noise of an observation; without one it is 1, as large
as an effect), ``determinant`` (the most uncertain one), ``facility`` (each candidate is covered as well as its most similar
measured one is like it), ``centre`` (the one least like any measured).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from _results import write
from _screens import screen_arguments, screens_of, seeds_of, simulated
from evidence import PREDICTORS

from dbdiffusion.embedding import fit_space, most_informative
from dbdiffusion.inference import References, fit_rectifier
from dbdiffusion.screen import (
    GeneSpace,
    contrast_within_batches,
    gene_vectors,
    grouped_moments,
    log1p_cp10k,
    perturbation_folds,
    unit,
)

if TYPE_CHECKING:
    import argparse

    from _screens import Screen

    from dbdiffusion.screen import ObservedEffects

N_GENES = 500
N_START, N_BATCH, N_BATCHES = 20, 10, 2
RANDOM = 4  # draws that a rule is compared with
RULES = ("variance", "variance .3", "variance 3", "determinant", "facility", "centre")


class Measured(NamedTuple):
    """Perturbations and their observed effects."""

    names: list[str]
    observed: ObservedEffects


def choose(rule: str, vectors: np.ndarray, have: list[int], rng: np.random.Generator) -> list[int]:
    """Ten more rows."""
    rest = np.setdiff1d(np.arange(len(vectors)), have)
    if rule == "random":
        return rng.choice(rest, N_BATCH, replace=False).tolist()
    if rule == "variance":
        return rest[most_informative(vectors[rest], vectors[have], N_BATCH)[0]].tolist()
    cosine = unit(vectors) @ unit(vectors).T
    kind, _, noise = rule.partition(" ")
    left = cosine.copy()
    for row in have:
        left = _known(left, row, float(noise or 1))
    chosen: list[int] = []
    for _ in range(N_BATCH):
        nearest = cosine[:, [*have, *chosen]].max(axis=1).clip(0)
        worth = {
            "facility": np.maximum(cosine - nearest[:, None], 0).sum(axis=0),
            "centre": -nearest,
            "determinant": np.diag(left),
            "variance": (left[rest] ** 2).sum(axis=0) / (np.diag(left) + float(noise or 1)),
        }[kind].copy()
        worth[[*have, *chosen]] = -np.inf
        chosen.append(int(np.argmax(worth)))
        left = _known(left, chosen[-1], float(noise or 1))
    return chosen


def _known(covariance: np.ndarray, row: int, noise: float) -> np.ndarray:
    return covariance - np.outer(covariance[row], covariance[row]) / (covariance[row, row] + noise)


def predicted(screen: Measured, kept: list[int], genes: GeneSpace) -> dict[str, np.ndarray]:
    """Effects (P, G) of all, as if only some rows had been measured: nearest neighbours alone, and rectified."""
    names = [screen.names[i] for i in kept]
    observed = screen.observed.subset(np.array(kept))
    space = fit_space(names, observed, genes, 32, (*PREDICTORS, "mean"), places_anything=True)
    by_kind = {kind: space.with_ranking((kind, "mean")).predict_effect(screen.names) for kind in PREDICTORS}
    rectifier = fit_rectifier(_references(names, observed, genes))
    stacked = sum(weight * by_kind[kind] for kind, weight in rectifier.weights.items())
    return {"knn": by_kind["knn"], "rectified": stacked + rectifier.rho * rectifier.residual.mean(axis=0)}


def _references(names: list[str], observed: ObservedEffects, genes: GeneSpace) -> References:
    effect = {kind: np.empty_like(observed.effect) for kind in PREDICTORS}
    own = []
    for fold in perturbation_folds({name: (name,) for name in names}):
        inside = [names.index(name) for name in fold.scored]
        kept = np.setdiff1d(np.arange(len(names)), inside)
        space = fit_space([names[i] for i in kept], observed.subset(kept), genes, 32, PREDICTORS)
        for kind in PREDICTORS:
            effect[kind][inside] = space.with_ranking((kind, "mean"), places_anything=True).predict_effect(fold.scored)
    for name in names:
        column = genes.names.get_indexer([name])
        own.append(column[column >= 0])
    return References(observed.effect, observed.variance, observed.control_variance.mean(axis=0), effect, tuple(own))


def _read(screen: Screen) -> tuple[Measured, GeneSpace]:
    """Observed effects and gene space of all cells."""
    adata, names = screen.train, screen.candidates
    library = np.asarray(adata.X.sum(axis=1)).ravel()
    values, key = log1p_cp10k(adata.X, library), screen.setup.get("batch_key")
    batch = adata.obs[key].cat.codes.to_numpy() if key else np.zeros(adata.n_obs, dtype=int)
    code, n_batches = pd.Index(["control", *names]).get_indexer(adata.obs["perturbation"]), int(batch.max()) + 1
    kept = code >= 0
    group = code[kept] * n_batches + batch[kept]
    moments = grouped_moments([(values[kept], group)], (len(names) + 1) * n_batches, adata.n_vars)
    observed = contrast_within_batches(moments, n_batches, control=0).subset(np.arange(1, len(names) + 1))
    return Measured(names, observed), GeneSpace(adata.var_names, gene_vectors(values, batch))


def trial(screen: Screen, seed: int, rules: list[str]) -> list[dict]:
    measured, genes = _read(screen)
    truth, noise = (table.loc[measured.names].to_numpy() for table in (screen.reference, screen.noise))
    vectors = genes.evidence[genes.names.get_indexer(measured.names)]
    rng = np.random.default_rng(seed)
    start = rng.choice(len(vectors), N_START, replace=False).tolist()

    def errors(have: list[int]) -> dict[str, float]:
        rest = np.setdiff1d(np.arange(len(vectors)), have)
        answers = predicted(measured, have, genes).items()
        return {kind: float(np.mean((values[rest] - truth[rest]) ** 2 - noise[rest])) for kind, values in answers}

    after = {}
    for rule, draws in (("random", RANDOM), *((rule, 1) for rule in rules)):
        runs = []
        for _ in range(draws):
            have = list(start)
            for _ in range(N_BATCHES):
                have += choose(rule, vectors, have, rng)
            runs.append(errors(have))
        after[rule] = pd.DataFrame(runs).mean()
    first = errors(start)
    return [
        {"screen": screen.name, "seed": seed, "rule": rule, "predictor": kind,
         "ratio": after[rule][kind] / after["random"][kind], "random_over_start": after["random"][kind] / first[kind]}
        for rule in rules for kind in ("knn", "rectified")
    ]  # fmt: skip


def summarise(rows: list[dict]) -> pd.DataFrame:
    groups = pd.DataFrame(rows).groupby(["screen", "predictor", "rule"], sort=False)
    return pd.DataFrame({"ratio": groups["ratio"].mean(), "se": groups["ratio"].sem(), "n": groups.size(),
                         "random / start": groups["random_over_start"].mean()})  # fmt: skip


def screens(options: argparse.Namespace, seed: int) -> list[Screen]:
    if options.screen != "simulated":
        return screens_of(options, seed)
    n = 40 if options.quick else options.n_perturbations[0]
    return [simulated(alignment, n, seed, n_genes=N_GENES) for alignment in options.alignment]


def main() -> None:
    parser = screen_arguments(__doc__)
    parser.set_defaults(seeds=10, n_perturbations=[200])
    parser.add_argument("--rules", nargs="+", choices=RULES, default=["variance"])
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        for screen in screens(options, seed):
            rows += trial(screen, seed, options.rules)
        file = write("suggest" if options.screen == "simulated" else f"suggest_{options.screen}", rows, options)
        print(summarise(rows).round(3).to_string(), flush=True)
    print("written:", file.name)


if __name__ == "__main__":
    main()
