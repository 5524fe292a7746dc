"""Are suggested perturbations better to measure next than random ones?

    python benchmarks/suggest.py --first-seed 100 --seeds 4   # to choose the rule
    python benchmarks/suggest.py --rules facility             # to judge it

No network. Of a simulated screen of 200 perturbations 20 are measured; 10 more are chosen, measured, and 10 more. All others
are then predicted (ridge and neighbours in gene space, stacked and rectified), and their squared error against the truth is
held against that after 20 random ones, the mean of eight draws: mean of the ratios over screens, and its standard error.
``knn`` is the same of nearest neighbours alone. Rules, all greedy and on the cosines of gene vectors: ``facility`` (each
candidate is covered as well as its most similar measured one is like it), ``centre`` (the one least like any measured),
``determinant`` and ``variance`` (a Gaussian process whose covariance is the cosine, with noise of the same size: the most
uncertain one, and the one that takes most uncertainty from all), ``strong`` (``facility``, candidates weighted by the size of
their predicted effect).
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from _results import write
from _screens import arguments, seeds_of, simulated
from evidence import PREDICTORS

from dbdiffusion.embedding import facility_location, fit_space
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
    from anndata import AnnData

    from dbdiffusion.screen import ObservedEffects

N_GENES = 500
N_START, N_BATCH, N_BATCHES = 20, 10, 2
RULES = ("facility", "centre", "determinant", "variance", "strong")
RANDOM = 8  # draws that a rule is compared with
NOISE = 1.0  # variance of an observation, of that of an effect


class Measured(NamedTuple):
    """Perturbations and their observed effects."""

    names: list[str]
    observed: ObservedEffects


def choose(rule: str, vectors: np.ndarray, have: list[int], rng: np.random.Generator, size: np.ndarray) -> list[int]:
    """Ten more rows."""
    rest = np.setdiff1d(np.arange(len(vectors)), have)
    if rule == "random":
        return rng.choice(rest, N_BATCH, replace=False).tolist()
    cosine = unit(vectors) @ unit(vectors).T
    if rule == "centre":
        chosen: list[int] = []
        for _ in range(N_BATCH):
            left = np.setdiff1d(rest, chosen)
            chosen.append(int(left[np.argmin(cosine[np.ix_(left, [*have, *chosen])].max(axis=1))]))
        return chosen
    if rule in ("determinant", "variance"):
        return by_uncertainty(cosine, have, from_all=rule == "variance")
    weight = size[rest] if rule == "strong" else None
    return rest[facility_location(vectors[rest], vectors[have], N_BATCH, weight)[0]].tolist()


def by_uncertainty(covariance: np.ndarray, have: list[int], *, from_all: bool) -> list[int]:
    """Ten more rows of a Gaussian process: the most uncertain, or those that take most uncertainty from all."""
    left, chosen = covariance.copy(), []
    for row in have:
        left = _known(left, row)
    for _ in range(N_BATCH):
        variance = np.diag(left)
        worth = (left**2).sum(axis=0) / (variance + NOISE) if from_all else variance.copy()
        worth[[*have, *chosen]] = -np.inf
        chosen.append(int(np.argmax(worth)))
        left = _known(left, chosen[-1])
    return chosen


def _known(covariance: np.ndarray, row: int) -> np.ndarray:
    return covariance - np.outer(covariance[row], covariance[row]) / (covariance[row, row] + NOISE)


def predicted(screen: Measured, kept: list[int], genes: GeneSpace) -> dict[str, np.ndarray]:
    """Effects (P, G) of all, as if only some rows had been measured: nearest neighbours alone, and rectified."""
    names = [screen.names[i] for i in kept]
    observed = screen.observed.subset(np.array(kept))
    space = fit_space(names, observed, genes, 32, (*PREDICTORS, "mean"), places_anything=True)
    by_kind = {kind: space.with_ranking((kind, "mean")).predict_effect(screen.names) for kind in PREDICTORS}
    references = _references(names, observed, genes)
    return {"knn": by_kind["knn"], "rectified": fit_rectifier(references).estimate(by_kind).effect}


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


def _read(adata: AnnData, names: list[str]) -> tuple[Measured, GeneSpace]:
    """Observed effects and gene space of all cells."""
    library = np.asarray(adata.X.sum(axis=1)).ravel()
    values, batch = log1p_cp10k(adata.X, library), adata.obs["batch"].cat.codes.to_numpy()
    code, n_batches = pd.Index(["control", *names]).get_indexer(adata.obs["perturbation"]), int(batch.max()) + 1
    moments = grouped_moments([(values, code * n_batches + batch)], (len(names) + 1) * n_batches, adata.n_vars)
    observed = contrast_within_batches(moments, n_batches, control=0).subset(np.arange(1, len(names) + 1))
    return Measured(names, observed), GeneSpace(adata.var_names, gene_vectors(values, batch))


def trial(alignment: float, seed: int, n_perturbations: int, rules: list[str]) -> list[dict]:
    simulation = simulated(alignment, n_perturbations, seed, n_genes=N_GENES)
    screen, genes = _read(simulation.train, list(simulation.reference.index))
    truth = simulation.reference.to_numpy()
    vectors = genes.evidence[genes.names.get_indexer(list(screen.names))]
    rng = np.random.default_rng(seed)
    start = rng.choice(len(vectors), N_START, replace=False).tolist()
    before = predicted(screen, start, genes)["rectified"]
    measured_after: dict[str, list[list[int]]] = {}
    for rule, draws in (("random", RANDOM), *((rule, 1) for rule in rules)):
        for _ in range(draws):
            have, effect = list(start), before
            for _ in range(N_BATCHES):
                have += choose(rule, vectors, have, rng, np.linalg.norm(effect, axis=1))
                if rule == "strong":
                    effect = predicted(screen, have, genes)["rectified"]
            measured_after.setdefault(rule, []).append(have)
    never = np.setdiff1d(np.arange(len(vectors)), start)
    errors = {}
    for rule, runs in measured_after.items():
        of_runs = []
        for have in runs:
            rest = np.setdiff1d(never, have)
            answer = predicted(screen, have, genes)
            of_runs.append({kind: float(np.mean((values[rest] - truth[rest]) ** 2)) for kind, values in answer.items()})
        errors[rule] = pd.DataFrame(of_runs).mean()
    at_start = predicted(screen, start, genes)
    first = {kind: float(np.mean((values[never] - truth[never]) ** 2)) for kind, values in at_start.items()}
    return [
        {"alignment": alignment, "seed": seed, "rule": rule, "predictor": kind,
         "ratio": errors[rule][kind] / errors["random"][kind], "random_over_start": errors["random"][kind] / first[kind]}
        for rule in rules for kind in ("knn", "rectified")
    ]  # fmt: skip


def summarise(rows: list[dict]) -> pd.DataFrame:
    groups = pd.DataFrame(rows).groupby(["alignment", "predictor", "rule"], sort=False)
    return pd.DataFrame({"ratio": groups["ratio"].mean(), "se": groups["ratio"].sem(), "n": groups.size(),
                         "random / start": groups["random_over_start"].mean()})  # fmt: skip


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(seeds=10)
    parser.add_argument("--alignment", type=float, nargs="+", default=[1.0, 0.5, 0.0])
    parser.add_argument("--n-perturbations", type=int, default=200)
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        for alignment in options.alignment:
            rows += trial(alignment, seed, options.n_perturbations, options.rules)
        file = write("suggest", rows, options)
        print(summarise(rows).round(3).to_string(), flush=True)
    print("written:", file.name)


if __name__ == "__main__":
    main()
