"""Simulated screens whose truth is known: co-expression modules, or a regulatory network."""

from dbdiffusion.simulate._screen import expected_log1p, knowable_effects, simulate_screen

__all__ = ["expected_log1p", "knowable_effects", "simulate_screen"]
