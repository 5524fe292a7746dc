"""Inference: numpy and scipy. Is handed arrays; knows no model, no AnnData, no network."""

from dbdiffusion.inference._contrast import welch_contrast
from dbdiffusion.inference._effects_table import effects_table
from dbdiffusion.inference._estimate import Estimate, adjust_p_values, check_confidence
from dbdiffusion.inference._moderation import ErrorLaw, VariancePrior, fit_error_law, fit_variance_prior
from dbdiffusion.inference._paper import paper_estimate
from dbdiffusion.inference._rectifier import MIN_REFERENCES, Rectifier, References, fit_rectifier

__all__ = [
    "MIN_REFERENCES",
    "ErrorLaw",
    "Estimate",
    "Rectifier",
    "References",
    "VariancePrior",
    "adjust_p_values",
    "check_confidence",
    "effects_table",
    "fit_error_law",
    "fit_rectifier",
    "fit_variance_prior",
    "paper_estimate",
    "welch_contrast",
]
