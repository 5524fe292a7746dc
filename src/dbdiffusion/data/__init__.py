"""Data: registry fields, checks, splits over perturbations; and the simulator, whose room is `simulate`."""

from dbdiffusion.data._covariates import check_columns, check_contexts, check_texts, column_of
from dbdiffusion.data._datasets import read_screen
from dbdiffusion.data._doors import check_door, check_genes, check_kind, check_no_view, undone_if_it_fails
from dbdiffusion.data._fields import PerturbationField, UserVectorsField, vectors_from_state
from dbdiffusion.data._groups import CellGroups, contexts_of
from dbdiffusion.data._guides import call_perturbations
from dbdiffusion.data._hold_out import hold_out
from dbdiffusion.data._labels import labels_in, perturbations_in
from dbdiffusion.data._manager import ScreenManager
from dbdiffusion.data._mudata import GuideRule, MuDataPerturbationField, MuDataUserVectorsField, check_modalities
from dbdiffusion.data._suspicions import say_other_totals, say_suspicions
from dbdiffusion.data._validate import check_counts, row_chunks
from dbdiffusion.data._vectors import aligned_vectors, check_vectors
from dbdiffusion.simulate import expected_log1p, simulate_screen

__all__ = [
    "CellGroups",
    "GuideRule",
    "MuDataPerturbationField",
    "MuDataUserVectorsField",
    "PerturbationField",
    "ScreenManager",
    "UserVectorsField",
    "aligned_vectors",
    "call_perturbations",
    "check_columns",
    "check_contexts",
    "check_counts",
    "check_door",
    "check_genes",
    "check_kind",
    "check_modalities",
    "check_no_view",
    "check_texts",
    "check_vectors",
    "column_of",
    "contexts_of",
    "expected_log1p",
    "hold_out",
    "labels_in",
    "perturbations_in",
    "read_screen",
    "row_chunks",
    "say_other_totals",
    "say_suspicions",
    "simulate_screen",
    "undone_if_it_fails",
    "vectors_from_state",
]
