"""A sparse directed network of regulators and the genes that they act on; knock-outs of regulators in it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import scipy.sparse as sp

from dbdiffusion.simulate._pairs import Pairs, draw_pairs, sums_of_parts
from dbdiffusion.simulate._regulation import Network

LOG_BASE_SD = 1.2
HOUSEKEEPING = 0.03  # share of genes, the most expressed ones, that no regulator acts on
REGULATORS_OF_A_REGULATOR = 0.6  # mean number; below 1, so that most of what is downstream of a regulator is near
ACTIVATORS = 0.65  # share of the regulators
LIKE_ITS_REGULATOR = 0.85  # share of a regulator's edges that have its sign
MEAN_STRENGTH = 1.2  # of an edge at an effect size of 1, on the scale of log rates
LARGEST_REGULATION = 1.2  # of a regulator, all its edges together; below 2 every cell state has one fixed point


def draw_network(
    rng: np.random.Generator,
    n_genes: int,
    n_perturbations: int,
    n_combinations: int,
    effect_size: float,
    n_regulators: int | None,
    out_degree: float,
    measured_targets: float,
) -> Network:
    """Parameters as those of :func:`dbdiffusion.simulate.simulate_screen`."""
    n_hidden = n_perturbations - round(measured_targets * n_perturbations)
    n_nodes = n_genes + n_hidden
    log_base = LOG_BASE_SD * rng.standard_normal(n_nodes)
    housekeeping = np.zeros(n_nodes, dtype=bool)
    housekeeping[np.argsort(log_base)[-max(1, round(HOUSEKEEPING * n_nodes)) :]] = True
    regulators = _draw_regulators(rng, log_base, housekeeping, number_of_regulators(n_regulators, n_perturbations, n_genes))
    is_measured = np.ones(n_nodes, dtype=bool)
    is_measured[regulators[rng.choice(n_perturbations, n_hidden, replace=False)]] = False
    weight = 1 + rng.pareto(2.0, len(regulators))
    weight /= weight.mean()
    free = np.flatnonzero(~housekeeping & ~np.isin(np.arange(n_nodes), regulators))
    regulation = _draw_edges(rng, regulators, weight, free, n_nodes, out_degree, effect_size)
    parts = draw_pairs(rng, n_perturbations, n_combinations)
    names = pd.Index([f"GENE{i:0{len(str(n_nodes - 1))}d}" for i in range(n_nodes)])
    annotation = {"regulator": np.isin(np.arange(n_nodes), regulators), "housekeeping": housekeeping}
    return Network(
        var=pd.DataFrame(annotation, index=names)[is_measured],
        regulators=names[regulators],
        pairs=Pairs(parts, np.empty(0, dtype=int)),
        log_base=log_base[is_measured],
        among=regulation[regulators],
        on_genes=regulation[is_measured],
        knocked=sums_of_parts(np.eye(n_perturbations, len(regulators), dtype=bool), parts),
    )


def number_of_regulators(asked: int | None, n_perturbations: int, n_genes: int) -> int:
    """A tenth of the genes where nothing is asked for, and as many as there are perturbations at least."""
    return max(n_perturbations, n_genes // 10) if asked is None else asked


def _draw_regulators(rng: np.random.Generator, log_base: np.ndarray, housekeeping: np.ndarray, number: int) -> np.ndarray:
    """The perturbed ones first; well expressed genes as long as there are any."""
    well = ~housekeeping & (log_base > np.quantile(log_base, 0.3))
    ranked = [rng.permutation(np.flatnonzero(of)) for of in (well, ~well & ~housekeeping)]
    return np.concatenate(ranked)[:number]


def _draw_edges(
    rng: np.random.Generator,
    regulators: np.ndarray,
    weight: np.ndarray,
    free: np.ndarray,
    n_nodes: int,
    out_degree: float,
    effect_size: float,
) -> sp.csr_matrix:
    """Strength of each regulator's (column) action on each node (row)."""
    degree = np.minimum(rng.poisson(out_degree * weight), len(free))
    edges = [(gene, r) for r, n in enumerate(degree) for gene in rng.choice(free, n, replace=False)]
    for r, n in enumerate(rng.poisson(REGULATORS_OF_A_REGULATOR, len(regulators))):
        chance = np.where(np.arange(len(regulators)) == r, 0.0, weight)
        n_others = min(n, len(regulators) - 1)
        if n_others:
            edges += [(regulators[r], by) for by in rng.choice(len(weight), n_others, replace=False, p=chance / chance.sum())]
    row, column = np.array(edges, dtype=int).reshape(-1, 2).T
    sign = np.where(rng.random(len(regulators)) < ACTIVATORS, 1.0, -1.0)[column]
    sign *= np.where(rng.random(len(row)) < LIKE_ITS_REGULATOR, 1.0, -1.0)
    strength = effect_size * MEAN_STRENGTH / 2 * rng.gamma(2.0, 1.0, len(row))
    total = np.bincount(row, strength, n_nodes)
    bound = np.where(np.isin(np.arange(n_nodes), regulators), LARGEST_REGULATION, np.inf)
    strength *= np.minimum(1.0, bound / np.maximum(total, 1e-300))[row]
    matrix = sp.csr_matrix((sign * strength, (row, column)), (n_nodes, len(regulators)))
    matrix.eliminate_zeros()
    return matrix
