"""How much of a simulated effect can be known without measuring it: the mean over what is drawn for a perturbation alone."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion.simulate._modules import LOG_STRENGTH_SD, Effects, mixed_shift
from dbdiffusion.simulate._screen import simulate_screen
from dbdiffusion.simulate._simulation import draw_simulation
from dbdiffusion.simulate._truth import population_effects

if TYPE_CHECKING:
    from dbdiffusion.simulate._simulation import Simulation

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
