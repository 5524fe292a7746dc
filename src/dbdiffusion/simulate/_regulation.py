r"""Cell states of a regulatory network and what knock-outs do to them.

A regulator whose log expression lies x above its usual one has the activity :math:`e^x / (1 + e^x)`, a Hill curve, which
is :math:`(1 + \tanh(x / 2)) / 2`. It acts on a gene by its strength times :math:`\tanh(x / 2)`, and the sum over all that act
on a gene saturates once more. Regulators differ between cells by noise of their own, and genes follow: co-expression.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from dbdiffusion.simulate._shares import rebalanced, softmax

if TYPE_CHECKING:
    import scipy.sparse as sp

    from dbdiffusion.simulate._pairs import Pairs

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
