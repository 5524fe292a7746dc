"""A simulated pooled CRISPR screen whose truth is known.

Two mechanisms. ``"modules"``: genes belong to co-expression modules, a cell's module activities move its genes together, and
knocking a gene out shifts the module activities by the row of a regulatory matrix. The knob ``alignment`` mixes the row of the
perturbed gene's own module (co-expression tells what the knock-out does) with the row of a module drawn at random
(co-expression tells nothing). ``"network"``: regulators act on genes and on each other through a sparse directed network;
a knock-out changes what is downstream of it and nothing else, and genes are co-expressed since regulators differ between cells.

In both a share of the cells escapes the perturbation, and counts are negative binomial.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from dbdiffusion.simulate._arguments import check_arguments
from dbdiffusion.simulate._regulation import Network
from dbdiffusion.simulate._simulation import OWN, draw_simulation
from dbdiffusion.simulate._truth import population_effects

if TYPE_CHECKING:
    from dbdiffusion.simulate._simulation import Simulation


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
    *,
    mechanism: Literal["modules", "network"] = "modules",
    unchanged: float = 0.0,
    n_synergies: int = 0,
    synergy_size: float = 1.0,
    n_regulators: int | None = None,
    out_degree: float = 20.0,
    measured_targets: float = 1.0,
) -> ad.AnnData:
    """Simulate a pooled CRISPR screen with known effects.

    Parameters
    ----------
    n_genes, n_perturbations, n_combinations
        G measured genes; single knock-outs; pairs of them, named ``"A+B"``. Of modules the shifts of the two parts add; in
        a network both genes are knocked out at once.
    n_cells_per_perturbation, n_control_cells
        Cells of a perturbation (the number varies around it) and of control.
    n_modules
        Co-expression modules.
    n_batches
        Experimental batches.
    alignment
        Modules: from 0 (co-expression says nothing about the effects) to 1 (it says all that is systematic).
    effect_size
        Scale of the shifts of module activity, or of a regulator's action on a gene; 0 gives a screen in which only the
        knocked-out gene itself changes.
    escape
        Share of the cells that carry the guide but are not perturbed.
    library_size, dispersion
        Median UMIs a cell; inverse dispersion (theta) of the negative binomial.
    seed
        Same seed, same screen.
    mechanism
        ``"modules"`` or ``"network"``. An option of the other mechanism is refused, not ignored.
    unchanged
        Modules: share of the genes that each single knock-out leaves exactly as they are, drawn for each on its own. The
        others make up for each other's changes, since shares of counts sum to one. A pair changes what either part changes.
    n_synergies, synergy_size
        Modules: pairs among the combinations with an effect beyond the sum of their parts, and its scale (that of
        ``effect_size``): random shifts of module activities and of a few genes.
    n_regulators
        Network: regulators, those that are knocked out among them; by default a tenth of ``n_genes``, and no fewer than
        ``n_perturbations``. A regulator is itself under 0.6 others on average, in cycles too.
    out_degree
        Network: mean number of genes, other than regulators, that a regulator acts on. The numbers have a heavy tail.
    measured_targets
        Network: share of the knocked-out genes that are among the G measured ones.

    Returns
    -------
    AnnData
        Counts (N, G) as CSR float32; ``obs["perturbation"]`` (control is ``"control"``), ``obs["batch"]``,
        ``obs["escaped"]``. In ``uns``:

        ``true_effects``
            DataFrame (P, G) of the population effects on the scale mean log1p CP10K (natural log), computed by
            :func:`expected_log1p` for the same cell states with and without the perturbation, and not from the sampled
            cells. Exactly 0 for genes that do not change: in a network all that are neither downstream of the knock-out nor
            housekeeping genes.
        ``true_synergies``
            Where ``n_synergies`` were asked for, DataFrame (n_synergies, G): true effect of each planted pair less those of
            its parts. Other pairs differ from the sum by what the scale and the shares bend.
        ``true_network``
            Network: DataFrame of edges, ``regulator``, ``gene`` and ``strength`` (on the scale of log rates).
        ``simulation``
            The mechanism and its options.

        ``var["module"]``, or in a network ``var["regulator"]`` and ``var["housekeeping"]``: the most expressed genes, on which
        no regulator acts, and which make up for what a knock-out changes in the sum of all shares.

    Raises
    ------
    ValueError
        If a share (``alignment``, ``escape``, ``unchanged``, ``measured_targets``) lies outside [0, 1], a number or a scale
        cannot be one, more perturbations than genes, more combinations than pairs or more synergies than combinations are
        asked for, ``unchanged`` leaves fewer than ten genes, or an option belongs to the other mechanism.

    Examples
    --------
    >>> from dbdiffusion import simulate_screen
    >>> small = {"n_genes": 50, "n_perturbations": 4, "n_cells_per_perturbation": 20, "n_control_cells": 30}
    >>> simulate_screen(**small).uns["true_effects"].shape
    (4, 50)

    In a network most genes do not change:

    >>> truth = simulate_screen(**small, mechanism="network", out_degree=5).uns["true_effects"]
    >>> bool((truth == 0).mean(axis=None) > 0.5)
    True
    """
    options = dict(locals())
    check_arguments(options, {name: one.default for name, one in inspect.signature(simulate_screen).parameters.items()})
    del options["seed"]
    rng = np.random.default_rng(seed)
    simulation = draw_simulation(rng, **options)
    cells, drawn = simulation.cells, simulation.mechanism
    counts = _draw_counts(rng, simulation)
    obs = pd.DataFrame(
        {
            "perturbation": pd.Categorical(np.array(["control", *drawn.names])[cells["code"]]),
            "batch": pd.Categorical([f"batch{b}" for b in cells["batch"]]),
            "escaped": cells["escaped"].to_numpy(),
        },
        index=[f"cell{i}" for i in range(len(cells))],
    )
    adata = ad.AnnData(counts, obs=obs, var=drawn.var.copy())
    truth = population_effects(simulation, rng)
    adata.uns["true_effects"] = pd.DataFrame(truth, index=drawn.names, columns=drawn.var.index)
    if n_synergies:
        adata.uns["true_synergies"] = _synergies(adata.uns["true_effects"], simulation)
    if isinstance(drawn, Network):
        adata.uns["true_network"] = drawn.edges()
    adata.uns["simulation"] = _record(options, seed)
    return adata


def _record(options: dict[str, Any], seed: int) -> dict[str, Any]:
    """What `uns` says of the options: those that the mechanism has, and None nowhere, since files hold none."""
    names = ("mechanism", "effect_size", "escape", *OWN[options["mechanism"]])
    return {name: options[name] for name in names if options[name] is not None} | {"seed": seed}


def _synergies(truth: pd.DataFrame, simulation: Simulation) -> pd.DataFrame:
    pairs = simulation.mechanism.pairs
    names = truth.index[-len(pairs.parts) :][pairs.synergies]
    values, (first, second) = truth.to_numpy(), pairs.parts[pairs.synergies].T
    return truth.loc[names] - (values[first] + values[second])


def _draw_counts(rng: np.random.Generator, simulation: Simulation, chunk: int = 2000) -> sp.csr_matrix:
    blocks = []
    mechanism, cells, dispersion = simulation.mechanism, simulation.cells, simulation.dispersion
    effective = np.where(cells["escaped"], 0, cells["code"])  # a cell that escaped is a control cell
    batch = cells["batch"].to_numpy()
    for start in range(0, len(cells), chunk):
        rows = slice(start, start + chunk)
        noise = mechanism.noise_sd * rng.standard_normal((len(effective[rows]), mechanism.n_sources))
        shares = mechanism.shares(noise, simulation.batch_shift[batch[rows]], effective[rows])
        rate = rng.gamma(dispersion, np.exp(simulation.log_library[rows, None]) * shares / dispersion)
        blocks.append(sp.csr_matrix(rng.poisson(rate).astype(np.float32)))
    return sp.vstack(blocks, format="csr")
