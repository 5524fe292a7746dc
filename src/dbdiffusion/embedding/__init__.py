"""Embeddings of perturbations: numpy and scikit-learn. Knows perturbations, genes and effects; no network, no AnnData."""

from dbdiffusion.embedding._space import (
    ALL_STRATEGIES,
    LeftOutSpaces,
    PerturbationSpace,
    fit_space,
    nearest_measured,
    nearest_similarity,
    neighbour_coherence,
    one_gene_space,
    score_strategies,
)
from dbdiffusion.embedding._strategies import EffectSpace, fit_effect_space
from dbdiffusion.embedding._suggest import most_informative

__all__ = [
    "ALL_STRATEGIES",
    "EffectSpace",
    "LeftOutSpaces",
    "PerturbationSpace",
    "fit_effect_space",
    "fit_space",
    "most_informative",
    "nearest_measured",
    "nearest_similarity",
    "neighbour_coherence",
    "one_gene_space",
    "score_strategies",
]
