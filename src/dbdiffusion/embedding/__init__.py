"""Embeddings of perturbations: numpy and scikit-learn. Knows perturbations, genes and effects; no network, no AnnData."""

from dbdiffusion.embedding._effects import (
    GroupMoments,
    ObservedEffects,
    contrast_within_batches,
    grouped_moments,
    log1p_cp10k,
)
from dbdiffusion.embedding._gene_space import gene_vectors, norm_cv
from dbdiffusion.embedding._names import CONTROL_WORDS, NameRule, canonical_names, close_names, folded_name, meant, split_name
from dbdiffusion.embedding._null_contrasts import null_contrasts
from dbdiffusion.embedding._reference_sets import REFERENCE_SETS, reference_weights
from dbdiffusion.embedding._select import left_out_error, n_left_out_groups
from dbdiffusion.embedding._space import ALL_STRATEGIES, GeneSpace, PerturbationSpace, fit_space
from dbdiffusion.embedding._table import EffectSpace, fit_effect_space

__all__ = [
    "ALL_STRATEGIES",
    "CONTROL_WORDS",
    "REFERENCE_SETS",
    "EffectSpace",
    "GeneSpace",
    "GroupMoments",
    "NameRule",
    "ObservedEffects",
    "PerturbationSpace",
    "canonical_names",
    "close_names",
    "contrast_within_batches",
    "fit_effect_space",
    "fit_space",
    "folded_name",
    "gene_vectors",
    "grouped_moments",
    "left_out_error",
    "log1p_cp10k",
    "meant",
    "n_left_out_groups",
    "norm_cv",
    "null_contrasts",
    "reference_weights",
    "split_name",
]
