"""Data: registry fields, checks, splits over perturbations; and the simulator, whose room is `simulate`."""

from dbdiffusion.data._datasets import read_screen
from dbdiffusion.data._fields import PerturbationField, UserVectorsField, aligned_vectors, check_vectors, vectors_from_state
from dbdiffusion.data._hold_out import hold_out
from dbdiffusion.data._labels import (
    check_columns,
    check_contexts,
    check_texts,
    column_of,
    labels_in,
    perturbations_in,
    say_other_totals,
    say_suspicions,
)
from dbdiffusion.data._manager import (
    CellGroups,
    ScreenManager,
    check_counts,
    check_door,
    check_genes,
    check_kind,
    check_no_view,
    contexts_of,
    row_chunks,
    undone_if_it_fails,
)
from dbdiffusion.data._mudata import (
    GuideRule,
    MuDataPerturbationField,
    MuDataUserVectorsField,
    call_perturbations,
    check_modalities,
)
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
