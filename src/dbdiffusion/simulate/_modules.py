"""Perturbations that shift the activities of co-expression modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

# Expected shares of genes in a cell's counts, and how they change where most genes shall not change at all.


def softmax(logits: np.ndarray) -> np.ndarray:
    """Shares that sum to 1 over the last axis."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def rebalanced(shares: np.ndarray, log_change: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Change genes of a pool and let that pool alone make up for the change, so that all other shares stay what they are.

    Shares sum to one, so one gene cannot change alone. Where all genes make up for it every gene changes a little.

    Parameters
    ----------
    shares
        Expected shares of cells without the perturbation, (cells, G).
    log_change
        Change of the log rates, (G,) or (cells, G); only that of the pool counts.
    pool
        Which genes change or make up for changes, (G,).

    Returns
    -------
    ndarray
        Shares (cells, G) with the sums of ``shares``; outside the pool the very same numbers.

    Examples
    --------
    >>> shares = np.array([[0.5, 0.25, 0.25]])
    >>> rebalanced(shares, np.log([1.0, 3.0, 1.0]), np.array([False, True, True]))
    array([[0.5  , 0.375, 0.125]])
    """
    before = shares[:, pool]
    after = before * np.exp(log_change[..., pool])
    changed = shares.copy()
    changed[:, pool] = after * (before.sum(axis=1, keepdims=True) / after.sum(axis=1, keepdims=True))
    return changed


# Pairs of perturbations, and which of them do more than the sum of their parts by design.


@dataclass(frozen=True)
class Pairs:
    """C pairs of perturbations."""

    parts: np.ndarray  # (C, 2) rows of the single perturbations
    synergies: np.ndarray  # which pairs have a planted synergy

    def named(self, singles: list[str]) -> list[str]:
        """Names of the pairs, ``"A+B"``."""
        return [f"{singles[i]}+{singles[j]}" for i, j in self.parts]


def draw_pairs(rng: np.random.Generator, n_perturbations: int, n_pairs: int) -> np.ndarray:
    """Different pairs of different perturbations, (n_pairs, 2); nothing is drawn where none are asked for."""
    if not n_pairs:
        return np.empty((0, 2), dtype=int)
    first, second = np.triu_indices(n_perturbations, k=1)
    chosen = np.sort(rng.choice(len(first), n_pairs, replace=False))
    return np.column_stack([first[chosen], second[chosen]])


def sums_of_parts(singles: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Rows of the singles (P, ...) and after them the sums of those of each pair, (P + C, ...)."""
    return np.concatenate([singles, singles[parts[:, 0]] + singles[parts[:, 1]]])


LOG_STRENGTH_SD = 0.4  # of the perturbations' strengths


@dataclass(frozen=True)
class Genome:
    """What stays the same over cells: M modules, G genes."""

    log_base: np.ndarray  # (G,)
    loadings: np.ndarray  # (G, M)
    regulation: np.ndarray  # (M, M) shift of the module activities when a gene of module m is knocked out
    module: np.ndarray  # (G,)

    def proportions(self, activities: np.ndarray, log_shift: np.ndarray | float = 0.0) -> np.ndarray:
        """Expected share of every gene in a cell's counts, (cells, G)."""
        return softmax(self.log_base + activities @ self.loadings.T + log_shift)

    def log_changes(self, effects: Effects) -> np.ndarray:
        """Change of every gene's log rate before shares are made of them, (P, G)."""
        return effects.activity @ self.loadings.T + effects.gene


@dataclass(frozen=True)
class Effects:
    """What each perturbation does: shift of the module activities and of single genes."""

    activity: np.ndarray  # (P, M)
    gene: np.ndarray  # (P, G) on the scale of log rates

    def with_pairs(self, parts: np.ndarray, beyond: Effects) -> Effects:
        """Those of the pairs after those of the singles: the sum of the parts and what goes beyond it."""
        activity, gene = sums_of_parts(self.activity, parts), sums_of_parts(self.gene, parts)
        activity[len(self.activity) :] += beyond.activity
        gene[len(self.gene) :] += beyond.gene
        return Effects(activity, gene)


@dataclass(frozen=True)
class Modules:
    """A mechanism in which a perturbation changes all genes of the modules that it shifts."""

    genome: Genome
    var: pd.DataFrame
    targets: np.ndarray  # genes (columns) of the single perturbations
    pairs: Pairs
    effects: Effects  # of the singles, then of the pairs
    noise_sd: ClassVar[float] = 0.5

    @property
    def n_sources(self) -> int:
        """Sources of differences between cells: the modules."""
        return self.genome.loadings.shape[1]

    @property
    def n_perturbations(self) -> int:
        """P, pairs among them."""
        return len(self.effects.gene)

    @property
    def names(self) -> list[str]:
        """Of the perturbations, and then of their pairs."""
        singles = list(self.var.index[self.targets])
        return singles + self.pairs.named(singles)

    def shares(self, noise: np.ndarray, batch: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Expected share of every gene in each cell's counts, (cells, G)."""
        activity, gene = (np.vstack([np.zeros(of.shape[1]), of])[codes] for of in (self.effects.activity, self.effects.gene))
        return self.genome.proportions(noise + activity, gene + batch)


@dataclass(frozen=True)
class SparseModules(Modules):
    """The same, but of every perturbation some genes do not answer: their shares are exactly those of control cells."""

    log_change: np.ndarray  # (P, G)
    changed: np.ndarray  # (P, G)

    def shares(self, noise: np.ndarray, batch: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Expected share of every gene in each cell's counts, (cells, G)."""
        shares = self.genome.proportions(noise, batch)
        for code in np.unique(codes[codes > 0]):
            rows = codes == code
            shares[rows] = rebalanced(shares[rows], self.log_change[code - 1], self.changed[code - 1])
        return shares


def draw_modules(
    rng: np.random.Generator,
    n_genes: int,
    n_perturbations: int,
    n_combinations: int,
    effect_size: float,
    n_modules: int,
    alignment: float,
    unchanged: float,
    n_synergies: int,
    synergy_size: float,
) -> Modules:
    """Parameters as those of :func:`dbdiffusion.simulate.simulate_screen`."""
    of_answers, of_synergies = rng.spawn(2)  # their draws leave all others as they are
    genome = _draw_genome(rng, n_genes, n_modules)
    targets = _draw_targets(rng, genome, n_perturbations)
    singles = _draw_effects(rng, genome, targets, alignment, effect_size)
    parts = draw_pairs(rng, n_perturbations, n_combinations)
    planted = np.sort(of_synergies.choice(n_combinations, n_synergies, replace=False))
    beyond = _draw_synergies(of_synergies, genome, n_combinations, planted, synergy_size)
    var = pd.DataFrame({"module": genome.module}, index=[f"GENE{i:0{len(str(n_genes - 1))}d}" for i in range(n_genes)])
    modules = Modules(genome, var, targets, Pairs(parts, planted), singles.with_pairs(parts, beyond))
    if not unchanged:
        return modules
    answers = _draw_answers(of_answers, targets, n_genes, unchanged)
    changed = sums_of_parts(answers, parts)  # a pair changes what either part changes
    log_change = sums_of_parts(answers * genome.log_changes(singles), parts)
    log_change[n_perturbations:] += changed[n_perturbations:] * genome.log_changes(beyond)
    return SparseModules(**vars(modules), log_change=log_change, changed=changed)


def mixed_shift(own: np.ndarray, unrelated: np.ndarray, alignment: float) -> np.ndarray:
    """Shift of the module activities, of unit strength: what co-expression tells, and what it does not."""
    return np.sqrt(alignment) * own + np.sqrt(1 - alignment) * unrelated


def _draw_genome(rng: np.random.Generator, n_genes: int, n_modules: int) -> Genome:
    module = rng.integers(0, n_modules, n_genes)
    loadings = np.zeros((n_genes, n_modules))
    loadings[np.arange(n_genes), module] = rng.gamma(2.0, 0.35, n_genes) * (rng.random(n_genes) < 0.6)
    second = rng.integers(0, n_modules, n_genes)
    loadings[np.arange(n_genes), second] += 0.25 * rng.standard_normal(n_genes)
    regulation = -np.eye(n_modules) + 0.6 * rng.standard_normal((n_modules, n_modules))
    return Genome(1.2 * rng.standard_normal(n_genes), loadings, regulation, module)


def _draw_targets(rng: np.random.Generator, genome: Genome, n_perturbations: int) -> np.ndarray:
    """Genes to knock out: well expressed members of a module, as a screen of regulators would choose them."""
    own = genome.loadings[np.arange(len(genome.module)), genome.module]
    eligible = (own > np.quantile(own, 0.5)) & (genome.log_base > np.quantile(genome.log_base, 0.3))
    ranked = np.concatenate([rng.permutation(np.flatnonzero(eligible)), rng.permutation(np.flatnonzero(~eligible))])
    return ranked[:n_perturbations]


def _draw_effects(
    rng: np.random.Generator, genome: Genome, targets: np.ndarray, alignment: float, effect_size: float
) -> Effects:
    n_perturbations, n_modules = len(targets), genome.regulation.shape[0]
    own = genome.regulation[genome.module[targets]]
    unrelated = genome.regulation[rng.integers(0, n_modules, n_perturbations)]
    strength = effect_size * np.exp(LOG_STRENGTH_SD * rng.standard_normal((n_perturbations, 1)))
    activity = strength * mixed_shift(own, unrelated, alignment)
    gene = _shifts_of_single_genes(rng, n_perturbations, len(genome.log_base), effect_size)
    gene[np.arange(n_perturbations), targets] = -2.0
    return Effects(activity, gene)


def _shifts_of_single_genes(rng: np.random.Generator, n_perturbations: int, n_genes: int, size: float) -> np.ndarray:
    gene = 0.4 * rng.standard_normal((n_perturbations, n_genes))
    gene *= size * (rng.random(gene.shape) < 0.05)
    return gene


def _draw_synergies(rng: np.random.Generator, genome: Genome, n_pairs: int, planted: np.ndarray, size: float) -> Effects:
    """What the planted pairs do beyond the sum of their parts: shifts that no single perturbation tells of; others nothing."""
    n_genes, n_modules = genome.loadings.shape
    beyond = Effects(np.zeros((n_pairs, n_modules)), np.zeros((n_pairs, n_genes)))
    beyond.activity[planted] = size * 0.6 * rng.standard_normal((len(planted), n_modules))
    beyond.gene[planted] = _shifts_of_single_genes(rng, len(planted), n_genes, size)
    return beyond


def _draw_answers(rng: np.random.Generator, targets: np.ndarray, n_genes: int, unchanged: float) -> np.ndarray:
    """Which genes answer to each single perturbation (P, G), the target always."""
    answers = np.ones((len(targets), n_genes), dtype=bool)
    for row, target in zip(answers, targets, strict=True):
        others = np.delete(np.arange(n_genes), target)
        row[rng.choice(others, round(unchanged * n_genes), replace=False)] = False
    return answers
