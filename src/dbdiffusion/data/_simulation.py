"""What is drawn of a simulated screen before any count: genes, perturbations, cells; and the true effects that follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

TARGET_SUM = 1e4
LOG_STRENGTH_SD = 0.4  # of the perturbations' strengths
LOG_LIBRARY_SD = 0.3
LOG_BATCH_SD = 0.15  # of a gene between batches


@dataclass(frozen=True)
class Genome:
    """What stays the same over cells: M modules, G genes."""

    log_base: np.ndarray  # (G,)
    loadings: np.ndarray  # (G, M)
    regulation: np.ndarray  # (M, M) shift of the module activities when a gene of module m is knocked out
    module: np.ndarray  # (G,)
    dispersion: float
    activity_sd: float

    def proportions(self, activities: np.ndarray, log_shift: np.ndarray | float = 0.0) -> np.ndarray:
        """Expected share of every gene in a cell's counts, (cells, G)."""
        logits = self.log_base + activities @ self.loadings.T + log_shift
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        return shares / shares.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class Effects:
    """What each perturbation does: shift of the module activities and of single genes."""

    activity: np.ndarray  # (P, M)
    gene: np.ndarray  # (P, G) on the scale of log rates


@dataclass(frozen=True)
class Simulation:
    """All that is drawn before the counts; N cells, P perturbations, G genes."""

    genome: Genome
    genes: pd.Index  # G names
    names: list[str]  # P, of the perturbations
    targets: np.ndarray  # genes (columns) of the single ones
    effects: Effects
    cells: pd.DataFrame  # N rows: code (0 is control), batch, escaped
    log_library: np.ndarray  # (N,)
    batch_shift: np.ndarray  # (batches, G)
    escape: float

    def population_effects(self, effects: Effects, rng: np.random.Generator, n_states: int = 200) -> np.ndarray:
        """Population effects (P, G): same cell states with and without the perturbation, counts integrated out."""
        half = self.genome.activity_sd * rng.standard_normal((n_states // 2, effects.activity.shape[1]))
        noise = np.vstack([half, -half])
        library = np.exp(rng.choice(self.log_library, (len(noise), 1)))
        batch = self.batch_shift[np.arange(len(noise)) % len(self.batch_shift)]

        def mean_log1p(activity: np.ndarray, gene: np.ndarray | float) -> np.ndarray:
            expected = library * self.genome.proportions(noise + activity, batch + gene)
            return expected_log1p(expected, TARGET_SUM / library, self.genome.dispersion).mean(axis=0)

        control = mean_log1p(np.zeros(effects.activity.shape[1]), 0.0)
        perturbed = [mean_log1p(a, g) for a, g in zip(effects.activity, effects.gene, strict=True)]
        return (1 - self.escape) * (np.array(perturbed) - control)


def draw_simulation(
    rng: np.random.Generator,
    n_genes: int,
    n_perturbations: int,
    n_combinations: int,
    n_cells_per_perturbation: int,
    n_control_cells: int,
    n_modules: int,
    n_batches: int,
    alignment: float,
    effect_size: float,
    escape: float,
    library_size: float,
    dispersion: float,
) -> Simulation:
    """Parameters as those of :func:`dbdiffusion.data.simulate_screen`."""
    genome = _draw_genome(rng, n_genes, n_modules, dispersion)
    targets = _draw_targets(rng, genome, n_perturbations)
    effects = _draw_effects(rng, genome, targets, alignment, effect_size)
    genes = pd.Index([f"GENE{i:0{len(str(n_genes - 1))}d}" for i in range(n_genes)])
    names = list(genes[targets])
    if n_combinations:
        names, effects = _add_combinations(rng, names, effects, n_combinations)
    cells = _draw_cells(rng, len(names), n_cells_per_perturbation, n_control_cells, n_batches, escape)
    log_library = np.log(library_size) + LOG_LIBRARY_SD * rng.standard_normal(len(cells))
    batch_shift = LOG_BATCH_SD * rng.standard_normal((n_batches, n_genes))
    return Simulation(genome, genes, names, targets, effects, cells, log_library, batch_shift, escape)


def mixed_shift(own: np.ndarray, unrelated: np.ndarray, alignment: float) -> np.ndarray:
    """Shift of the module activities, of unit strength: what co-expression tells, and what it does not."""
    return np.sqrt(alignment) * own + np.sqrt(1 - alignment) * unrelated


def expected_log1p(mean: np.ndarray, scale: np.ndarray, dispersion: float) -> np.ndarray:
    r"""Mean of log(1 + scale * X) for a negative binomial X, exactly up to quadrature.

    By Frullani's integral :math:`\log(1+a) = \int_0^\infty (1 - e^{-ta}) e^{-t} / t \, dt`, so the mean needs only the
    Laplace transform of X; the trapezoid rule in log t converges geometrically.

    Parameters
    ----------
    mean
        Means of X, any shape.
    scale
        Factor on the counts, broadcast against ``mean``.
    dispersion
        Inverse dispersion theta.

    Returns
    -------
    ndarray
        Same shape as ``mean``, natural log.

    Examples
    --------
    >>> float(expected_log1p(np.array([2.0]), np.array([0.0]), 4.0)[0])
    0.0
    """
    total = np.zeros(np.broadcast_shapes(mean.shape, np.shape(scale)))
    step = 0.75
    for log_t in np.arange(-18.0, 3.0, step):
        t = np.exp(log_t)
        transform = np.exp(-dispersion * np.log1p(mean / dispersion * -np.expm1(-t * scale)))
        total += step * np.exp(-t) * (1.0 - transform)
    return total


def _draw_genome(rng: np.random.Generator, n_genes: int, n_modules: int, dispersion: float) -> Genome:
    module = rng.integers(0, n_modules, n_genes)
    loadings = np.zeros((n_genes, n_modules))
    loadings[np.arange(n_genes), module] = rng.gamma(2.0, 0.35, n_genes) * (rng.random(n_genes) < 0.6)
    second = rng.integers(0, n_modules, n_genes)
    loadings[np.arange(n_genes), second] += 0.25 * rng.standard_normal(n_genes)
    regulation = -np.eye(n_modules) + 0.6 * rng.standard_normal((n_modules, n_modules))
    return Genome(1.2 * rng.standard_normal(n_genes), loadings, regulation, module, dispersion, activity_sd=0.5)


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
    gene = 0.4 * rng.standard_normal((n_perturbations, len(genome.log_base)))
    gene *= effect_size * (rng.random(gene.shape) < 0.05)
    gene[np.arange(n_perturbations), targets] = -2.0
    return Effects(activity, gene)


def _add_combinations(
    rng: np.random.Generator, names: list[str], effects: Effects, n_combinations: int
) -> tuple[list[str], Effects]:
    first, second = np.triu_indices(len(names), k=1)
    chosen = np.sort(rng.choice(len(first), n_combinations, replace=False))
    pairs = list(zip(first[chosen], second[chosen], strict=True))
    combined = [f"{names[i]}+{names[j]}" for i, j in pairs]
    activity = np.array([effects.activity[i] + effects.activity[j] for i, j in pairs])
    gene = np.array([effects.gene[i] + effects.gene[j] for i, j in pairs])
    return names + combined, Effects(np.vstack([effects.activity, activity]), np.vstack([effects.gene, gene]))


def _draw_cells(
    rng: np.random.Generator, n_perturbations: int, n_cells: int, n_control: int, n_batches: int, escape: float
) -> pd.DataFrame:
    sizes = np.maximum(2, np.round(n_cells * np.exp(0.3 * rng.standard_normal(n_perturbations) - 0.045))).astype(int)
    code = np.repeat(np.arange(n_perturbations + 1), [n_control, *sizes])
    escaped = (code > 0) & (rng.random(len(code)) < escape)
    return pd.DataFrame({"code": code, "batch": rng.integers(0, n_batches, len(code)), "escaped": escaped})
