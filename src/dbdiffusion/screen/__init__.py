"""What was measured: effects, gene space, folds of perturbations. Numpy and scipy; no network, no AnnData."""

from dbdiffusion.screen._chance import norm_cv
from dbdiffusion.screen._clusters import louvain_clusters, unit
from dbdiffusion.screen._control import ControlHalves, control_halves
from dbdiffusion.screen._direction import direction_between, direction_weights
from dbdiffusion.screen._effect_tables import effect_table
from dbdiffusion.screen._effects import (
    MIN_EXPRESSING,
    GroupMoments,
    ObservedEffects,
    contrast_weights,
    contrast_within_batches,
    grouped_moments,
    log1p_cp10k,
)
from dbdiffusion.screen._folds import Fold, LeftOut, SpaceWithout, network_folds, perturbation_folds, spaces_needed
from dbdiffusion.screen._gene_space import GeneSpace, gene_vectors, gene_vectors_without
from dbdiffusion.screen._listed import listed_names, one_name
from dbdiffusion.screen._names import (
    CONTROL_WORDS,
    NameRule,
    canonical_names,
    close_names,
    folded_name,
    meant,
    meant_of,
    split_name,
)
from dbdiffusion.screen._null import null_contrasts
from dbdiffusion.screen._screen import Screen

__all__ = [
    "CONTROL_WORDS",
    "MIN_EXPRESSING",
    "ControlHalves",
    "Fold",
    "GeneSpace",
    "GroupMoments",
    "LeftOut",
    "NameRule",
    "ObservedEffects",
    "Screen",
    "SpaceWithout",
    "canonical_names",
    "close_names",
    "contrast_weights",
    "contrast_within_batches",
    "control_halves",
    "direction_between",
    "direction_weights",
    "effect_table",
    "folded_name",
    "gene_vectors",
    "gene_vectors_without",
    "grouped_moments",
    "listed_names",
    "log1p_cp10k",
    "louvain_clusters",
    "meant",
    "meant_of",
    "network_folds",
    "norm_cv",
    "null_contrasts",
    "one_name",
    "perturbation_folds",
    "spaces_needed",
    "split_name",
    "unit",
]
