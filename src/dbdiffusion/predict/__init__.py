"""Predictions: composition of screen, space, generator and inference. Torch, but never scvi."""

from dbdiffusion.predict._answers import Answer
from dbdiffusion.predict._calibration import Calibration
from dbdiffusion.predict._candidates import candidate_names, candidate_table, suggested
from dbdiffusion.predict._compare import Comparison, compare
from dbdiffusion.predict._generator import BLOCK, Conditions, Decoder, Generator, Matched, latents_at_once
from dbdiffusion.predict._null_tests import NullCalibration, judge_nulls
from dbdiffusion.predict._own import OwnTable, own_table
from dbdiffusion.predict._pairs import GeneticInteractions, interactions_of
from dbdiffusion.predict._pool import GENERATED, ReferencePool, predictions, references_of
from dbdiffusion.predict._predictor import Predictor, Retrained
from dbdiffusion.predict._ranking import rank
from dbdiffusion.predict._recipe import GenerationOptions, Recipe
from dbdiffusion.predict._rectify import rectify
from dbdiffusion.predict._table import observed_table
from dbdiffusion.predict._unseen_warnings import FewReferencesWarning, NotToldApartWarning

__all__ = [
    "BLOCK",
    "GENERATED",
    "Answer",
    "Calibration",
    "Comparison",
    "Conditions",
    "Decoder",
    "FewReferencesWarning",
    "GenerationOptions",
    "Generator",
    "GeneticInteractions",
    "Matched",
    "NotToldApartWarning",
    "NullCalibration",
    "OwnTable",
    "Predictor",
    "Recipe",
    "ReferencePool",
    "Retrained",
    "candidate_names",
    "candidate_table",
    "compare",
    "interactions_of",
    "judge_nulls",
    "latents_at_once",
    "observed_table",
    "own_table",
    "predictions",
    "rank",
    "rectify",
    "references_of",
    "suggested",
]
