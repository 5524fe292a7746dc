"""Metrics: numpy and scipy, pure functions of arrays."""

from dbdiffusion.metrics._coverage import coverage, interval_score, two_sided_pit
from dbdiffusion.metrics._distribution import energy_distance, mmd_rbf
from dbdiffusion.metrics._effect import (
    discrimination,
    effect_scores,
    error_ratio,
    largest,
    mean_squared_error,
    pearson,
    precision_recall,
    sign_agreement,
)

__all__ = [
    "coverage",
    "discrimination",
    "effect_scores",
    "energy_distance",
    "error_ratio",
    "interval_score",
    "largest",
    "mean_squared_error",
    "mmd_rbf",
    "pearson",
    "precision_recall",
    "sign_agreement",
    "two_sided_pit",
]
