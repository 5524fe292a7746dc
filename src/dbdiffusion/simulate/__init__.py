"""Simulated screens whose truth is known: co-expression modules, or a regulatory network."""

from dbdiffusion.simulate._modules import LOG_STRENGTH_SD, Effects, mixed_shift
from dbdiffusion.simulate._screen import simulate_screen
from dbdiffusion.simulate._simulation import Simulation, draw_simulation
from dbdiffusion.simulate._truth import expected_log1p, population_effects

__all__ = [
    "LOG_STRENGTH_SD",
    "Effects",
    "Simulation",
    "draw_simulation",
    "expected_log1p",
    "mixed_shift",
    "population_effects",
    "simulate_screen",
]
