"""What was measured: effects, gene space, folds of perturbations. Numpy and scipy; no network, no AnnData."""

from dbdiffusion.screen._chance import norm_cv
from dbdiffusion.screen._clusters import louvain_clusters, unit
from dbdiffusion.screen._effects import (
    GroupMoments,
    ObservedEffects,
    contrast_within_batches,
    grouped_moments,
    log1p_cp10k,
)
from dbdiffusion.screen._folds import Fold, LeftOut, SpaceWithout, network_folds, perturbation_folds, spaces_needed
from dbdiffusion.screen._gene_space import GeneSpace, gene_vectors, gene_vectors_without
from dbdiffusion.screen._null import null_contrasts
from dbdiffusion.screen._screen import Screen

__all__ = [
    "Fold",
    "GeneSpace",
    "GroupMoments",
    "LeftOut",
    "ObservedEffects",
    "Screen",
    "SpaceWithout",
    "contrast_within_batches",
    "gene_vectors",
    "gene_vectors_without",
    "grouped_moments",
    "log1p_cp10k",
    "louvain_clusters",
    "network_folds",
    "norm_cv",
    "null_contrasts",
    "perturbation_folds",
    "spaces_needed",
    "unit",
]
