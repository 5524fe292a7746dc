"""How unseen targets are predicted: every option in one place, read as plain values and refused in words before any work."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dbdiffusion._words import choice, real_number, whole_number, word
from dbdiffusion.diffusion import SAMPLERS, steps_of

MOST_GUIDANCE = 100.0  # far above what makes sense; from about 1e19 on the latents overflow
CROSS_FITTING = ("embedding", "k_fold", "in_sample")
WORDS = {
    "method": ("cross_fit", "hierarchical", "paper"),
    "cross_fitting": CROSS_FITTING,
    "interval": ("prediction", "mean"),
    "fdr": ("target", "all"),
}


@dataclass(frozen=True)
class GenerationOptions:
    """How cells are drawn; every field is a plain value, whatever type of number it was given as.

    Parameters
    ----------
    guidance_scale
        1 is none; 100 at most.
    sampler, n_steps
        See :func:`~dbdiffusion.diffusion.sample`.
    batch
        Category of the batch key to generate in; None draws batches as control cells have them.
    seed
        Same seed, same cells.
    fixed
        Covariates that are the same for all cells: registry key, column, and code or value.

    Raises
    ------
    ValueError
        If one is out of range, or no number.
    """

    guidance_scale: float = 1.0
    sampler: str = "dpm++"
    n_steps: int | None = None
    batch: int | None = None
    seed: int = 0
    fixed: tuple[tuple[str, int, float], ...] = ()

    def __post_init__(self) -> None:
        plain = {
            "sampler": word("sampler", self.sampler, tuple(sorted(SAMPLERS))),
            "guidance_scale": real_number("guidance_scale", self.guidance_scale, 0, MOST_GUIDANCE),
            "seed": whole_number("seed", self.seed),
        }
        n_steps = None if self.n_steps is None else whole_number("n_steps", self.n_steps)
        plain["n_steps"] = steps_of(str(self.sampler), n_steps)  # recorded as it was used
        for name, value in plain.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Recipe:
    """How targets are predicted and tested; see :meth:`DBDiffusion.differential_expression_ppi`.

    Parameters
    ----------
    options
        How cells are drawn.
    method, interval, cross_fitting, lam, n_cells, confidence, fdr, lfc_threshold, shrink
        As there.

    Raises
    ------
    ValueError
        If one is out of range, or none of its words.

    Examples
    --------
    >>> Recipe(GenerationOptions(seed=1), lam=1).lam
    1.0
    """

    options: GenerationOptions
    method: str = "cross_fit"
    interval: str = "prediction"
    cross_fitting: str = "embedding"
    lam: float | None = None
    n_cells: int = 512
    confidence: float = 0.95
    fdr: str = "target"
    lfc_threshold: float = 0.0
    shrink: bool = False

    def __post_init__(self) -> None:
        plain = {name: word(name, getattr(self, name), words) for name, words in WORDS.items()} | {
            "n_cells": whole_number("n_cells", self.n_cells, 2),  # to average over
            "lam": None if self.lam is None else real_number("lam", self.lam, 0),
            "confidence": real_number("confidence", self.confidence, 0, 1, strictly=True),
            "lfc_threshold": real_number("lfc_threshold", self.lfc_threshold, 0),
            "shrink": choice("shrink", self.shrink),
        }
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @property
    def smallest_effect(self) -> float:
        """Of interest, as natural log."""
        return self.lfc_threshold * math.log(2)
