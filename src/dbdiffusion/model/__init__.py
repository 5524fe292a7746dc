"""The model: scvi-tools outside, the other rooms inside."""

from dbdiffusion.model._model import DBDiffusion
from dbdiffusion.model._module import DBDiffusionVAE, training_options
from dbdiffusion.model._registration import OWN_PARTS
from dbdiffusion.model._screen import ScreenReader
from dbdiffusion.model._training import DiffusionPlan, LatentDataModule, Latents, Unprofiled, fit_linear_part, standardised

__all__ = [
    "OWN_PARTS",
    "DBDiffusion",
    "DBDiffusionVAE",
    "DiffusionPlan",
    "LatentDataModule",
    "Latents",
    "ScreenReader",
    "Unprofiled",
    "fit_linear_part",
    "standardised",
    "training_options",
]
