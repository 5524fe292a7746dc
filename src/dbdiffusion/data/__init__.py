"""Data: registry fields, checks, splits over perturbations; and the simulator, whose room is `simulate`."""

from dbdiffusion.data._covariates import check_columns, check_contexts, check_texts
from dbdiffusion.data._datasets import read_screen
from dbdiffusion.data._fields import PerturbationField, UserVectorsField, vectors_from_state
from dbdiffusion.data._guides import call_perturbations
from dbdiffusion.data._hold_out import hold_out
from dbdiffusion.data._mudata import GuideRule, MuDataPerturbationField, MuDataUserVectorsField, check_modalities
from dbdiffusion.data._validate import check_counts, check_perturbations, check_vectors, row_chunks
from dbdiffusion.simulate import expected_log1p, simulate_screen

__all__ = [
    "GuideRule",
    "MuDataPerturbationField",
    "MuDataUserVectorsField",
    "PerturbationField",
    "UserVectorsField",
    "call_perturbations",
    "check_columns",
    "check_contexts",
    "check_counts",
    "check_modalities",
    "check_perturbations",
    "check_texts",
    "check_vectors",
    "expected_log1p",
    "hold_out",
    "read_screen",
    "row_chunks",
    "simulate_screen",
    "vectors_from_state",
]
