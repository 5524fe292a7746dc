"""A simulated pooled CRISPR screen whose truth is known.

Genes belong to co-expression modules: a cell's module activities move its genes together. Knocking a gene out
shifts the module activities by the row of a regulatory matrix. The knob ``alignment`` mixes the row of the
perturbed gene's own module (co-expression tells what the knock-out does) with the row of a module drawn at random
(co-expression tells nothing). A share of the cells escapes the perturbation; counts are negative binomial.
"""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from dbdiffusion.data._simulation import Simulation, draw_simulation


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
    simulation = draw_simulation(
        rng,
        n_genes=n_genes,
        n_perturbations=n_perturbations,
        n_combinations=n_combinations,
        n_cells_per_perturbation=n_cells_per_perturbation,
        n_control_cells=n_control_cells,
        n_modules=n_modules,
        n_batches=n_batches,
        alignment=alignment,
        effect_size=effect_size,
        escape=escape,
        library_size=library_size,
        dispersion=dispersion,
    )
    cells = simulation.cells
    counts = _draw_counts(rng, simulation)
    obs = pd.DataFrame(
        {
            "perturbation": pd.Categorical(np.array(["control", *simulation.names])[cells["code"]]),
            "batch": pd.Categorical([f"batch{b}" for b in cells["batch"]]),
            "escaped": cells["escaped"].to_numpy(),
        },
        index=[f"cell{i}" for i in range(len(cells))],
    )
    adata = ad.AnnData(counts, obs=obs, var=pd.DataFrame({"module": simulation.genome.module}, index=simulation.genes))
    truth = simulation.population_effects(simulation.effects, rng)
    adata.uns["true_effects"] = pd.DataFrame(truth, index=simulation.names, columns=simulation.genes)
    adata.uns["simulation"] = {"alignment": alignment, "seed": seed, "effect_size": effect_size, "escape": escape}
    return adata


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


def _draw_counts(rng: np.random.Generator, simulation: Simulation, chunk: int = 2000) -> sp.csr_matrix:
    blocks = []
    genome, effects, cells = simulation.genome, simulation.effects, simulation.cells
    effective = np.where(cells["escaped"], 0, cells["code"])  # a cell that escaped is a control cell
    activity = np.vstack([np.zeros(effects.activity.shape[1]), effects.activity])
    gene = np.vstack([np.zeros(effects.gene.shape[1]), effects.gene])
    for start in range(0, len(cells), chunk):
        rows = slice(start, start + chunk)
        noise = genome.activity_sd * rng.standard_normal((len(effective[rows]), activity.shape[1]))
        shift = gene[effective[rows]] + simulation.batch_shift[cells["batch"].to_numpy()[rows]]
        mean = np.exp(simulation.log_library[rows, None]) * genome.proportions(noise + activity[effective[rows]], shift)
        rate = rng.gamma(genome.dispersion, mean / genome.dispersion)
        blocks.append(sp.csr_matrix(rng.poisson(rate).astype(np.float32)))
    return sp.vstack(blocks, format="csr")
