"""Metrics: numpy and scipy, pure functions of arrays."""

from dbdiffusion.metrics._calibration import coverage, interval_score, two_sided_pit
from dbdiffusion.metrics._distribution import energy_distance, mmd_rbf
from dbdiffusion.metrics._effect import discrimination, mean_squared_error, pearson, precision_recall

__all__ = [
    "coverage",
    "discrimination",
    "energy_distance",
    "interval_score",
    "mean_squared_error",
    "mmd_rbf",
    "pearson",
    "precision_recall",
    "two_sided_pit",
]
