"""The model: scvi-tools outside, the other rooms inside."""

from dbdiffusion.model._calibration import Calibration, NullCalibration
from dbdiffusion.model._interruption import heeding_sigterm
from dbdiffusion.model._model import DBDiffusion
from dbdiffusion.model._module import DBDiffusionVAE
from dbdiffusion.model._options import training_options, whole_number

__all__ = [
    "Calibration",
    "DBDiffusion",
    "DBDiffusionVAE",
    "NullCalibration",
    "heeding_sigterm",
    "training_options",
    "whole_number",
]
