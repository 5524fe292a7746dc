"""Data: registry fields, checks, splits over perturbations, and a simulator with known truth."""

from dbdiffusion.data._covariates import check_columns, check_contexts, check_texts
from dbdiffusion.data._datasets import read_screen
from dbdiffusion.data._doors import check_door, check_genes, check_kind, undone_if_it_fails
from dbdiffusion.data._fields import PerturbationField, UserVectorsField, vectors_from_state
from dbdiffusion.data._guides import call_perturbations
from dbdiffusion.data._hold_out import assign_folds, hold_out
from dbdiffusion.data._manager import ScreenManager
from dbdiffusion.data._mudata import GuideRule, MuDataPerturbationField, MuDataUserVectorsField, check_modalities
from dbdiffusion.data._simulate import simulate_screen
from dbdiffusion.data._simulation import expected_log1p
from dbdiffusion.data._validate import check_counts, check_perturbations, check_vectors, row_chunks

__all__ = [
    "GuideRule",
    "MuDataPerturbationField",
    "MuDataUserVectorsField",
    "PerturbationField",
    "ScreenManager",
    "UserVectorsField",
    "assign_folds",
    "call_perturbations",
    "check_columns",
    "check_contexts",
    "check_counts",
    "check_door",
    "check_genes",
    "check_kind",
    "check_modalities",
    "check_perturbations",
    "check_texts",
    "check_vectors",
    "expected_log1p",
    "hold_out",
    "read_screen",
    "row_chunks",
    "simulate_screen",
    "undone_if_it_fails",
    "vectors_from_state",
]
