"""A simulated pooled CRISPR screen whose truth is known.

Genes belong to co-expression modules: a cell's module activities move its genes together. Knocking a gene out
shifts the module activities by the row of a regulatory matrix. The knob ``alignment`` mixes the row of the
perturbed gene's own module (co-expression tells what the knock-out does) with the row of a module drawn at random
(co-expression tells nothing). A share of the cells escapes the perturbation; counts are negative binomial.
"""

from __future__ import annotations

from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

TARGET_SUM = 1e4


@dataclass(frozen=True)
class _Genome:
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
class _Effects:
    """What each perturbation does: shift of the module activities and of single genes."""

    activity: np.ndarray  # (P, M)
    gene: np.ndarray  # (P, G) on the scale of log rates


def simulate_screen(
    n_genes: int = 1000,
    n_perturbations: int = 60,
    n_combinations: int = 0,
    n_cells_per_perturbation: int = 100,
    n_control_cells: int = 800,
    n_modules: int = 12,
    n_batches: int = 2,
    alignment: float = 1.0,
    effect_size: float = 0.5,
    escape: float = 0.15,
    library_size: float = 3000.0,
    dispersion: float = 4.0,
    seed: int = 0,
) -> ad.AnnData:
    """Simulate a pooled CRISPR screen with known effects.

    Parameters
    ----------
    n_genes, n_perturbations, n_combinations
        G genes; single knock-outs of G; pairs of them, named ``"A+B"``, whose effects on the module activities add.
    n_cells_per_perturbation, n_control_cells
        Cells of a perturbation (the number varies around it) and of control.
    n_modules, n_batches
        Co-expression modules and experimental batches.
    alignment
        From 0 (co-expression says nothing about the effects) to 1 (it says all that is systematic).
    effect_size
        Scale of the shifts of module activity; 0 gives a screen in which only the knocked-out gene itself changes.
    escape
        Share of the cells that carry the guide but are not perturbed.
    library_size, dispersion
        Median UMIs a cell; inverse dispersion (theta) of the negative binomial.
    seed
        Same seed, same screen.

    Returns
    -------
    AnnData
        Counts (N, G) as CSR float32; ``obs["perturbation"]`` (control is ``"control"``), ``obs["batch"]``,
        ``obs["escaped"]``; ``var["module"]``; ``uns["true_effects"]``, a DataFrame (P, G) of the population effects on
        the scale mean log1p CP10K (natural log), computed by :func:`expected_log1p` and not from the sampled cells.

    Raises
    ------
    ValueError
        If ``alignment`` or ``escape`` lies outside [0, 1], or more perturbations than genes are asked for.

    Examples
    --------
    >>> from dbdiffusion.data import simulate_screen
    >>> adata = simulate_screen(n_genes=50, n_perturbations=4, n_cells_per_perturbation=20, n_control_cells=30)
    >>> adata.uns["true_effects"].shape
    (4, 50)
    """
    _check_arguments(n_genes, n_perturbations, n_combinations, alignment, escape)
    rng = np.random.default_rng(seed)
    genome = _draw_genome(rng, n_genes, n_modules, dispersion)
    genes = pd.Index([f"GENE{i:0{len(str(n_genes - 1))}d}" for i in range(n_genes)])
    targets = _draw_targets(rng, genome, n_perturbations)
    effects = _draw_effects(rng, genome, targets, alignment, effect_size)
    names = list(genes[targets])
    if n_combinations:
        names, effects = _add_combinations(rng, names, effects, n_combinations)

    obs = _draw_cells(rng, names, n_cells_per_perturbation, n_control_cells, n_batches, escape)
    log_library = np.log(library_size) + 0.3 * rng.standard_normal(len(obs))
    batch_shift = 0.15 * rng.standard_normal((n_batches, n_genes))
    counts = _draw_counts(rng, genome, effects, obs, log_library, batch_shift)

    obs_frame = pd.DataFrame(
        {
            "perturbation": pd.Categorical(np.array(["control", *names])[obs["code"]]),
            "batch": pd.Categorical([f"batch{b}" for b in obs["batch"]]),
            "escaped": obs["escaped"].to_numpy(),
        },
        index=[f"cell{i}" for i in range(len(obs))],
    )
    adata = ad.AnnData(counts, obs=obs_frame, var=pd.DataFrame({"module": genome.module}, index=genes))
    truth = _true_effects(rng, genome, effects, log_library, batch_shift, escape)
    adata.uns["true_effects"] = pd.DataFrame(truth, index=names, columns=genes)
    adata.uns["simulation"] = {"alignment": alignment, "seed": seed, "effect_size": effect_size, "escape": escape}
    return adata


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


def _check_arguments(n_genes: int, n_perturbations: int, n_combinations: int, alignment: float, escape: float) -> None:
    for name, value in {"alignment": alignment, "escape": escape}.items():
        if not 0 <= value <= 1:
            msg = f"`{name}` must lie between 0 and 1, got {value!r}."
            raise ValueError(msg)
    if not 1 <= n_perturbations <= n_genes:
        msg = f"`n_perturbations` must lie between 1 and n_genes={n_genes}, got {n_perturbations!r}."
        raise ValueError(msg)
    if n_combinations > n_perturbations * (n_perturbations - 1) // 2:
        msg = f"{n_perturbations} perturbations have fewer than `n_combinations`={n_combinations} pairs; ask for fewer."
        raise ValueError(msg)


def _draw_genome(rng: np.random.Generator, n_genes: int, n_modules: int, dispersion: float) -> _Genome:
    module = rng.integers(0, n_modules, n_genes)
    loadings = np.zeros((n_genes, n_modules))
    loadings[np.arange(n_genes), module] = rng.gamma(2.0, 0.35, n_genes) * (rng.random(n_genes) < 0.6)
    second = rng.integers(0, n_modules, n_genes)
    loadings[np.arange(n_genes), second] += 0.25 * rng.standard_normal(n_genes)
    regulation = -np.eye(n_modules) + 0.6 * rng.standard_normal((n_modules, n_modules))
    return _Genome(1.2 * rng.standard_normal(n_genes), loadings, regulation, module, dispersion, activity_sd=0.5)


def _draw_targets(rng: np.random.Generator, genome: _Genome, n_perturbations: int) -> np.ndarray:
    """Genes to knock out: well expressed members of a module, as a screen of regulators would choose them."""
    own = genome.loadings[np.arange(len(genome.module)), genome.module]
    eligible = (own > np.quantile(own, 0.5)) & (genome.log_base > np.quantile(genome.log_base, 0.3))
    ranked = np.concatenate([rng.permutation(np.flatnonzero(eligible)), rng.permutation(np.flatnonzero(~eligible))])
    return ranked[:n_perturbations]


def _draw_effects(
    rng: np.random.Generator, genome: _Genome, targets: np.ndarray, alignment: float, effect_size: float
) -> _Effects:
    n_perturbations, n_modules = len(targets), genome.regulation.shape[0]
    own = genome.regulation[genome.module[targets]]
    unrelated = genome.regulation[rng.integers(0, n_modules, n_perturbations)]
    strength = effect_size * np.exp(0.4 * rng.standard_normal((n_perturbations, 1)))
    activity = strength * (np.sqrt(alignment) * own + np.sqrt(1 - alignment) * unrelated)
    gene = 0.4 * rng.standard_normal((n_perturbations, len(genome.log_base)))
    gene *= effect_size * (rng.random(gene.shape) < 0.05)
    gene[np.arange(n_perturbations), targets] = -2.0
    return _Effects(activity, gene)


def _add_combinations(
    rng: np.random.Generator, names: list[str], effects: _Effects, n_combinations: int
) -> tuple[list[str], _Effects]:
    first, second = np.triu_indices(len(names), k=1)
    chosen = np.sort(rng.choice(len(first), n_combinations, replace=False))
    pairs = list(zip(first[chosen], second[chosen], strict=True))
    combined = [f"{names[i]}+{names[j]}" for i, j in pairs]
    activity = np.array([effects.activity[i] + effects.activity[j] for i, j in pairs])
    gene = np.array([effects.gene[i] + effects.gene[j] for i, j in pairs])
    return names + combined, _Effects(np.vstack([effects.activity, activity]), np.vstack([effects.gene, gene]))


def _draw_cells(
    rng: np.random.Generator, names: list[str], n_cells: int, n_control: int, n_batches: int, escape: float
) -> pd.DataFrame:
    sizes = np.maximum(2, np.round(n_cells * np.exp(0.3 * rng.standard_normal(len(names)) - 0.045))).astype(int)
    code = np.repeat(np.arange(len(names) + 1), [n_control, *sizes])
    escaped = (code > 0) & (rng.random(len(code)) < escape)
    return pd.DataFrame({"code": code, "batch": rng.integers(0, n_batches, len(code)), "escaped": escaped})


def _draw_counts(
    rng: np.random.Generator,
    genome: _Genome,
    effects: _Effects,
    obs: pd.DataFrame,
    log_library: np.ndarray,
    batch_shift: np.ndarray,
    chunk: int = 2000,
) -> sp.csr_matrix:
    blocks = []
    effective = np.where(obs["escaped"], 0, obs["code"])  # a cell that escaped is a control cell
    activity = np.vstack([np.zeros(effects.activity.shape[1]), effects.activity])
    gene = np.vstack([np.zeros(effects.gene.shape[1]), effects.gene])
    for start in range(0, len(obs), chunk):
        rows = slice(start, start + chunk)
        noise = genome.activity_sd * rng.standard_normal((len(effective[rows]), activity.shape[1]))
        shift = gene[effective[rows]] + batch_shift[obs["batch"].to_numpy()[rows]]
        mean = np.exp(log_library[rows, None]) * genome.proportions(noise + activity[effective[rows]], shift)
        rate = rng.gamma(genome.dispersion, mean / genome.dispersion)
        blocks.append(sp.csr_matrix(rng.poisson(rate).astype(np.float32)))
    return sp.vstack(blocks, format="csr")


def _true_effects(
    rng: np.random.Generator,
    genome: _Genome,
    effects: _Effects,
    log_library: np.ndarray,
    batch_shift: np.ndarray,
    escape: float,
    n_states: int = 200,
) -> np.ndarray:
    """Population effects (P, G): same cell states with and without the perturbation, counts integrated out."""
    half = genome.activity_sd * rng.standard_normal((n_states // 2, effects.activity.shape[1]))
    noise = np.vstack([half, -half])
    library = np.exp(rng.choice(log_library, (len(noise), 1)))
    batch = batch_shift[np.arange(len(noise)) % len(batch_shift)]

    def mean_log1p(activity: np.ndarray, gene: np.ndarray | float) -> np.ndarray:
        expected = library * genome.proportions(noise + activity, batch + gene)
        return expected_log1p(expected, TARGET_SUM / library, genome.dispersion).mean(axis=0)

    control = mean_log1p(np.zeros(effects.activity.shape[1]), 0.0)
    perturbed = [mean_log1p(a, g) for a, g in zip(effects.activity, effects.gene, strict=True)]
    return (1 - escape) * (np.array(perturbed) - control)
