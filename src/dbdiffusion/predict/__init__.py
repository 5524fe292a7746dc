"""Predictions: composition of screen, space, generator and inference. Torch, but never scvi."""

from dbdiffusion.predict._answers import Answer, FewReferencesWarning, NotToldApartWarning, observed_table
from dbdiffusion.predict._calibration import Calibration, NullCalibration, judge_nulls
from dbdiffusion.predict._compare import Comparison, compare
from dbdiffusion.predict._generator import BLOCK, Conditions, Decoder, Generator, Matched, latents_at_once
from dbdiffusion.predict._pairs import GeneticInteractions, interactions_of
from dbdiffusion.predict._pool import GENERATED, ReferencePool, predictions, references_of
from dbdiffusion.predict._predictor import GenerationOptions, Predictor, Recipe, Retrained
from dbdiffusion.predict._ranking import candidate_names, candidate_table, rank, suggested
from dbdiffusion.predict._rectify import OwnTable, own_table, rectify

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
