"""Plots: matplotlib only. A plot takes a table and an axes, and returns the axes."""

from dbdiffusion.plotting._calibration import coverage_by_level, null_quantiles, pit_histogram, sign_reliability
from dbdiffusion.plotting._comparison import errors_by_target
from dbdiffusion.plotting._effects import gene_intervals, predicted_against_observed, ranked_effects, volcano
from dbdiffusion.plotting._interactions import pair_interactions
from dbdiffusion.plotting._places import perturbation_map
from dbdiffusion.plotting._training import cell_map, losses

__all__ = [
    "cell_map",
    "coverage_by_level",
    "errors_by_target",
    "gene_intervals",
    "losses",
    "null_quantiles",
    "pair_interactions",
    "perturbation_map",
    "pit_histogram",
    "predicted_against_observed",
    "ranked_effects",
    "sign_reliability",
    "volcano",
]
