"""Calibrated inference for perturbations nobody measured: latent diffusion and prediction-powered inference on scvi."""

import rich.pretty  # noqa: F401  scvi-tools 1.4.2 uses it without importing it

from dbdiffusion import data, metrics, plotting
from dbdiffusion._words import ScreenWarning
from dbdiffusion.inference import to_cell_eval, to_pertpy
from dbdiffusion.model import DBDiffusion
from dbdiffusion.predict import compare, rectify
from dbdiffusion.simulate import simulate_screen
from dbdiffusion.storage import to_anndata

__version__ = "0.1.0"
__all__ = [
    "DBDiffusion",
    "ScreenWarning",
    "compare",
    "data",
    "metrics",
    "plotting",
    "rectify",
    "simulate_screen",
    "to_anndata",
    "to_cell_eval",
    "to_pertpy",
]
