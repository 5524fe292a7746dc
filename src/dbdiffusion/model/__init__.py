"""The model: scvi-tools outside, the other rooms inside."""

from dbdiffusion.model._latents import LatentDataModule, Latents, fit_linear_part, standardised
from dbdiffusion.model._model import DBDiffusion
from dbdiffusion.model._module import DBDiffusionVAE
from dbdiffusion.model._options import training_options
from dbdiffusion.model._pretrained import OWN_PARTS
from dbdiffusion.model._screen import ScreenReader
from dbdiffusion.model._training import DiffusionPlan, Unprofiled

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
