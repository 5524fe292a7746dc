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
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from dbdiffusion.simulate._modules import LOG_STRENGTH_SD, Effects, mixed_shift
from dbdiffusion.simulate._network import Network, number_of_regulators
from dbdiffusion.simulate._simulation import OWN, draw_simulation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbdiffusion.simulate._simulation import Simulation


# Arguments of a simulated screen that cannot be meant, refused before anything is drawn.


WHOLE = (int, np.integer)
NUMBER = (*WHOLE, float, np.floating)
SHARES = ("alignment", "escape", "unchanged", "measured_targets")
LEAST = {
    "n_genes": 1,
    "n_combinations": 0,
    "n_cells_per_perturbation": 1,
    "n_control_cells": 0,
    "n_modules": 1,
    "n_batches": 1,
    "n_synergies": 0,
}
ABOVE = {"effect_size": -np.inf, "synergy_size": -np.inf, "library_size": 0.0, "dispersion": 0.0}
MOST_COUNTS = 2**31  # cells times genes: more cannot be held
LEAST_CHANGED = 10  # genes that make up for each other's changes


def check_arguments(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse in words what :func:`dbdiffusion.simulate.simulate_screen` cannot make a screen of."""
    _check_mechanism(given, defaults)
    _check_kinds(given)
    _check_values(given)
    _check_numbers(given)
    if given["mechanism"] == "network":
        _check_network(given)
    else:
        _check_modules(given)


def _check_mechanism(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    mechanism = given["mechanism"]
    if mechanism not in OWN:
        msg = f"`mechanism` must be one of {sorted(OWN)}, got {mechanism!r}."
        raise ValueError(msg)
    for other in OWN.keys() - {mechanism}:
        for name in OWN[other]:
            if given[name] != defaults[name]:
                msg = f"`{name}` belongs to mechanism={other!r}, not to {mechanism!r}, got {given[name]!r}; leave it out."
                raise ValueError(msg)


def _check_kinds(given: Mapping[str, Any]) -> None:
    for name in (*SHARES, *ABOVE, "out_degree"):
        if not isinstance(given[name], NUMBER):
            msg = f"`{name}` must be a number, got {given[name]!r}."
            raise ValueError(msg)


def _check_values(given: Mapping[str, Any]) -> None:
    for name in SHARES:
        if not 0 <= given[name] <= 1:
            msg = f"`{name}` must lie between 0 and 1, got {given[name]!r}."
            raise ValueError(msg)
    for name, bound in ABOVE.items():
        if not (np.isfinite(given[name]) and given[name] > bound):
            msg = f"`{name}` must be a finite number{' above 0' if bound == 0 else ''}, got {given[name]!r}."
            raise ValueError(msg)
    if not (np.isfinite(given["out_degree"]) and given["out_degree"] >= 0):
        msg = f"`out_degree` must be a finite number of genes, 0 or more, got {given['out_degree']!r}."
        raise ValueError(msg)
    for name, least in LEAST.items():
        if not (isinstance(given[name], WHOLE) and given[name] >= least):
            msg = f"`{name}` must be a whole number of {least} or more, got {given[name]!r}."
            raise ValueError(msg)


def _check_numbers(given: Mapping[str, Any]) -> None:
    n_genes, n_perturbations, n_combinations = (given[name] for name in ("n_genes", "n_perturbations", "n_combinations"))
    if not (isinstance(n_perturbations, WHOLE) and 1 <= n_perturbations <= n_genes):
        msg = f"`n_perturbations` must lie between 1 and n_genes={n_genes}, got {n_perturbations!r}."
        raise ValueError(msg)
    n_cells = given["n_control_cells"] + (n_perturbations + n_combinations) * given["n_cells_per_perturbation"]
    if n_cells * n_genes > MOST_COUNTS or max(given["n_modules"], given["n_batches"]) > MOST_COUNTS:
        msg = f"A simulated screen has at most {MOST_COUNTS:,} counts, got {n_cells} cells of {n_genes} genes; ask for fewer."
        raise ValueError(msg)
    if n_combinations > n_perturbations * (n_perturbations - 1) // 2:
        msg = f"{n_perturbations} perturbations have fewer than `n_combinations`={n_combinations} pairs; ask for fewer."
        raise ValueError(msg)


def _check_modules(given: Mapping[str, Any]) -> None:
    if given["n_synergies"] > given["n_combinations"]:
        msg = (
            f"`n_synergies` pairs are planted among the n_combinations={given['n_combinations']} ones, "
            f"got {given['n_synergies']!r}; ask for more combinations or for fewer synergies."
        )
        raise ValueError(msg)
    n_changed = given["n_genes"] - round(given["unchanged"] * given["n_genes"])
    if given["unchanged"] and n_changed < LEAST_CHANGED:
        msg = (
            f"`unchanged`={given['unchanged']!r} of n_genes={given['n_genes']} leaves {n_changed} genes to change, and at "
            f"least {LEAST_CHANGED} must make up for each other's changes, since shares of counts sum to one; lower it."
        )
        raise ValueError(msg)


def _check_network(given: Mapping[str, Any]) -> None:
    n_genes, n_perturbations = given["n_genes"], given["n_perturbations"]
    number = number_of_regulators(given["n_regulators"], n_perturbations, n_genes)
    if not (isinstance(number, WHOLE) and n_perturbations <= number <= 0.9 * n_genes):
        msg = (
            f"`n_regulators` must lie between n_perturbations={n_perturbations} and nine tenths of n_genes={n_genes}, "
            f"got {number!r}: regulators are what is knocked out, and they need genes to act on."
        )
        raise ValueError(msg)


# True effects: the same cell states with and without a perturbation, counts integrated out.


TARGET_SUM = 1e4


def population_effects(simulation: Simulation, rng: np.random.Generator, n_states: int = 200) -> np.ndarray:
    """Population effects (P, G) on the scale mean log1p CP10K; exactly 0 where the expected shares of counts are the same."""
    mechanism = simulation.mechanism
    half = mechanism.noise_sd * rng.standard_normal((n_states // 2, mechanism.n_sources))
    noise = np.vstack([half, -half])
    library = np.exp(rng.choice(simulation.log_library, (len(noise), 1)))
    batch = simulation.batch_shift[np.arange(len(noise)) % len(simulation.batch_shift)]

    def shares(code: int) -> np.ndarray:
        return mechanism.shares(noise, batch, np.full(len(noise), code))

    def mean_log1p(of: np.ndarray) -> np.ndarray:
        return expected_log1p(library * of, TARGET_SUM / library, simulation.dispersion).mean(axis=0)

    without = shares(0)
    control = mean_log1p(without)
    effects = np.zeros((mechanism.n_perturbations, len(control)))
    for effect, code in zip(effects, range(1, len(effects) + 1), strict=True):
        perturbed = shares(code)
        differs = (perturbed != without).any(axis=0)
        effect[differs] = mean_log1p(perturbed[:, differs]) - control[differs]
    return (1 - simulation.escape) * effects


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


# How much of a simulated effect can be known without measuring it: the mean over what is drawn for a perturbation alone.


NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(5)  # of the strengths


def knowable_effects(seed: int = 0, *, told_the_draws: bool = False, **options: Any) -> pd.DataFrame:
    """Best possible predictions for the co-expression modules of :func:`simulate_screen`.

    They are told the whole simulator: modules, regulation, loadings, and the target's module. They are not told what is drawn
    for each perturbation alone: its unrelated module, its strength and its shifts of single genes, whose mean is zero. No
    predictor has a smaller expected squared error, whatever it learns from other perturbations and from co-expression.

    Parameters
    ----------
    seed, **options
        As of :func:`simulate_screen`, of the screen in question.
    told_the_draws
        Whether they are told these draws too, but for the single genes: what remains is left by those.

    Returns
    -------
    pandas.DataFrame
        Effects (P, G), natural log of CP10K plus one, target minus control, as ``uns["true_effects"]`` of the screen.

    Raises
    ------
    ValueError
        For another mechanism than ``"modules"``, or with combinations.

    Examples
    --------
    >>> from dbdiffusion import simulate_screen
    >>> from dbdiffusion.simulate import knowable_effects
    >>> options = {"n_genes": 60, "n_perturbations": 13, "n_modules": 4, "n_control_cells": 70}
    >>> truth = simulate_screen(seed=1, alignment=0.5, **options).uns["true_effects"]
    >>> best = knowable_effects(seed=1, alignment=0.5, **options)
    >>> told = knowable_effects(seed=1, alignment=0.5, told_the_draws=True, **options)
    >>> squared = lambda error: float((error**2).to_numpy().mean())
    >>> squared(told - truth) < squared(best - truth) < squared(truth)
    True
    """
    defaults = {name: one.default for name, one in inspect.signature(simulate_screen).parameters.items()}
    options = defaults | options
    del options["seed"]
    if options["mechanism"] != "modules" or options["n_combinations"]:
        msg = "What can be known is worked out for single perturbations of `mechanism='modules'` only."
        raise ValueError(msg)
    simulation = draw_simulation(np.random.default_rng(seed), **options)
    modules: Any = simulation.mechanism
    if told_the_draws:
        effects = _population(simulation, modules.effects.activity)
    else:
        of_modules = _over_draws(simulation, options["alignment"], options["effect_size"])
        effects = of_modules[modules.genome.module[modules.targets]]
    return pd.DataFrame(effects, index=modules.names, columns=modules.var.index)


def _population(simulation: Simulation, activity: np.ndarray) -> np.ndarray:
    """Effects (n, G) of shifts of the module activities (n, M), no gene shifted on its own."""
    modules: Any = simulation.mechanism
    nothing = np.zeros((len(activity), len(modules.var)))
    others = replace(simulation, mechanism=replace(modules, effects=Effects(activity, nothing)))
    return population_effects(others, np.random.default_rng(0))  # of the states that it integrates over


def _over_draws(simulation: Simulation, alignment: float, effect_size: float) -> np.ndarray:
    """Mean effect of a knock-out in each module (M, G) over the unrelated module and the strength."""
    modules: Any = simulation.mechanism
    regulation = modules.genome.regulation
    unrelated = regulation if alignment < 1 else regulation[:1]  # without weight one stands for all
    mixed = mixed_shift(regulation[:, None], unrelated, alignment)
    strength = effect_size * np.exp(LOG_STRENGTH_SD * NODES)
    activity = strength[:, None, None, None] * mixed
    effects = _population(simulation, activity.reshape(-1, len(regulation))).reshape(*activity.shape[:3], -1)
    return np.average(effects.mean(axis=2), axis=0, weights=WEIGHTS)
