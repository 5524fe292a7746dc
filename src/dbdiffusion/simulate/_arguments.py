"""Arguments of a simulated screen that cannot be meant, refused before anything is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dbdiffusion.simulate._network import number_of_regulators
from dbdiffusion.simulate._simulation import OWN

if TYPE_CHECKING:
    from collections.abc import Mapping

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
