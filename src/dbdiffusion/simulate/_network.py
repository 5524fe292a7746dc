"""A sparse directed network of regulators and the genes that they act on; knock-outs of regulators in it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
import scipy.sparse as sp

from dbdiffusion.simulate._modules import Pairs, draw_pairs, rebalanced, softmax, sums_of_parts

# Cell states of a regulatory network and what knock-outs do to them.
#
# A regulator whose log expression lies x above its usual one has the activity :math:`e^x / (1 + e^x)`, a Hill curve, which
# is :math:`(1 + \tanh(x / 2)) / 2`. It acts on a gene by its strength times :math:`\tanh(x / 2)`, and the sum over all that act
# on a gene saturates once more. Regulators differ between cells by noise of their own, and genes follow: co-expression.


SATURATION = 2.5  # of all regulation of a gene together, on the scale of log rates
KNOCKED_OUT = -4.0  # log expression of a knocked-out regulator: its activity is about none
N_ITERATIONS = 40  # each brings regulators nearer to the fixed point by a factor of 0.6 or less


@dataclass(frozen=True)
class Network:
    """A mechanism in which a knock-out changes what is downstream of it, and nothing else; R regulators, G genes."""

    var: pd.DataFrame  # G rows: regulator, housekeeping
    regulators: pd.Index  # R names, those of the single perturbations first
    pairs: Pairs
    log_base: np.ndarray  # (G,)
    among: sp.csr_matrix  # (R, R) strength of the column's action on the row
    on_genes: sp.csr_matrix  # (G, R)
    knocked: np.ndarray  # (P, R) of the singles, then of the pairs
    noise_sd: ClassVar[float] = 0.8  # of a regulator between cells

    @property
    def n_sources(self) -> int:
        """Sources of differences between cells: the regulators."""
        return len(self.regulators)

    @property
    def n_perturbations(self) -> int:
        """P, pairs among them."""
        return len(self.knocked)

    @property
    def names(self) -> list[str]:
        """Of the perturbations, and then of their pairs."""
        singles = list(self.regulators[: len(self.knocked) - len(self.pairs.parts)])
        return singles + self.pairs.named(singles)

    @cached_property
    def downstream(self) -> np.ndarray:
        """Genes that can change with each perturbation (P, G): what it knocks out, and what a path leads to."""
        reached = self.knocked
        while True:
            further = reached | ((self.among != 0) @ reached.T.astype(float) > 0).T
            if (further == reached).all():
                break
            reached = further
        genes = ((self.on_genes != 0) @ reached.T.astype(float) > 0).T
        genes[:, self._own_column[1]] |= reached[:, self._own_column[0]]
        return genes

    def shares(self, noise: np.ndarray, batch: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Expected share of every gene in each cell's counts, (cells, G); housekeeping genes make up for what changes."""
        log_rates = self._log_rates(noise, np.zeros_like(noise, dtype=bool))
        shares = softmax(self.log_base + log_rates + batch)
        perturbed = np.flatnonzero(codes > 0)
        change = self._log_rates(noise[perturbed], self.knocked[codes[perturbed] - 1]) - log_rates[perturbed]
        for code in np.unique(codes[perturbed]):
            of_code = codes[perturbed] == code
            rows, pool = perturbed[of_code], self.downstream[code - 1] | self.var["housekeeping"].to_numpy()
            shares[rows] = rebalanced(shares[rows], change[of_code], pool)
        return shares

    def edges(self) -> pd.DataFrame:
        """One row an edge between a regulator and a measured gene or regulator: ``regulator``, ``gene``, ``strength``."""
        parts = []
        hidden = ~self.regulators.isin(self.var.index)
        for matrix, names in ((self.on_genes, self.var.index), (self.among[hidden], self.regulators[hidden])):
            edges = matrix.tocoo()
            regulator, gene = self.regulators[edges.col].astype(object), names[edges.row].astype(object)
            parts.append(pd.DataFrame({"regulator": regulator, "gene": gene, "strength": edges.data}))
        table = pd.concat(parts, ignore_index=True)
        return table.set_index(table.index.astype(str))

    @cached_property
    def _own_column(self) -> tuple[np.ndarray, np.ndarray]:
        """Measured regulators, and their columns among the genes."""
        column = self.var.index.get_indexer(self.regulators)
        return np.flatnonzero(column >= 0), column[column >= 0]

    def _log_rates(self, noise: np.ndarray, knocked: np.ndarray) -> np.ndarray:
        """Log rates of the genes above their base (cells, G), of cells with noise and knock-outs (cells, R)."""
        state = np.where(knocked, KNOCKED_OUT, noise).T
        for _ in range(N_ITERATIONS):
            state = np.where(knocked.T, KNOCKED_OUT, _saturated(self.among @ np.tanh(state / 2)) + noise.T)
        rates = _saturated(self.on_genes @ np.tanh(state / 2)).T
        regulators, columns = self._own_column
        rates[:, columns] = state[regulators].T
        return rates


def _saturated(total: np.ndarray) -> np.ndarray:
    return SATURATION * np.tanh(total / SATURATION)


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
