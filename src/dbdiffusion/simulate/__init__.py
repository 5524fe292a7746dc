"""Simulated screens whose truth is known: co-expression modules, or a regulatory network."""

from dbdiffusion.simulate._knowable import knowable_effects
from dbdiffusion.simulate._screen import simulate_screen
from dbdiffusion.simulate._truth import expected_log1p

__all__ = ["expected_log1p", "knowable_effects", "simulate_screen"]
