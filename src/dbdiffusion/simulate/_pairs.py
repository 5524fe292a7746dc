"""Pairs of perturbations, and which of them do more than the sum of their parts by design."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Pairs:
    """C pairs of perturbations."""

    parts: np.ndarray  # (C, 2) rows of the single perturbations
    synergies: np.ndarray  # which pairs have a planted synergy

    def named(self, singles: list[str]) -> list[str]:
        """Names of the pairs, ``"A+B"``."""
        return [f"{singles[i]}+{singles[j]}" for i, j in self.parts]


def draw_pairs(rng: np.random.Generator, n_perturbations: int, n_pairs: int) -> np.ndarray:
    """Different pairs of different perturbations, (n_pairs, 2); nothing is drawn where none are asked for."""
    if not n_pairs:
        return np.empty((0, 2), dtype=int)
    first, second = np.triu_indices(n_perturbations, k=1)
    chosen = np.sort(rng.choice(len(first), n_pairs, replace=False))
    return np.column_stack([first[chosen], second[chosen]])


def sums_of_parts(singles: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Rows of the singles (P, ...) and after them the sums of those of each pair, (P + C, ...)."""
    return np.concatenate([singles, singles[parts[:, 0]] + singles[parts[:, 1]]])
