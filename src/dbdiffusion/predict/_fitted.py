"""What predicts unseen targets: a rectifier with its references, and the rule that lists genes; what it says of any target."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion._words import say
from dbdiffusion.embedding import neighbour_coherence
from dbdiffusion.inference import (
    MIN_REFERENCES,
    DiscoveryRule,
    Estimate,
    Rectifier,
    References,
    SignLaw,
    Signs,
    discoveries_of,
    fit_rectifier,
    fit_sign_law,
    signs_of,
)
from dbdiffusion.predict._pool import ReferencePool, references_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.inference import HierarchicalRectifier
    from dbdiffusion.predict._predictor import Predictor
    from dbdiffusion.predict._recipe import Recipe

TOLD_APART = 0.1  # of the standard errors: a difference below it explains less than a hundredth of the variance left open


@dataclass(frozen=True)
class Fitted:
    """What targets of a kind are predicted with.

    Parameters
    ----------
    rectifier
        Fitted.
    references
        On which.
    rule
        That gives lists of genes, or None.
    signs
        What left-out signs were worth, or None.
    """

    rectifier: Rectifier | HierarchicalRectifier
    references: References
    rule: DiscoveryRule | None = None
    signs: Signs | None = None

    @cached_property
    def sign_law(self) -> SignLaw | None:
        """How often a predicted sign is wrong; None with too few references to tell."""
        return None if self.signs is None else fit_sign_law(self.signs)


def fit(predictor: Predictor, recipe: Recipe, pool: ReferencePool, members: np.ndarray) -> Fitted:
    """Fit what predicts targets like some members of the pool."""
    references = references_of(predictor, pool, members)
    if recipe.method == "hierarchical" and len(members) >= MIN_REFERENCES:
        from dbdiffusion.inference import fit_hierarchical  # the only part that needs Pyro

        fitted = fit_hierarchical(references, seed=recipe.options.seed)
        if not fitted.converged:
            say(
                "The hierarchical model has not converged: its evidence bound still moves. Compare with `method='cross_fit'`.",
                UserWarning,
            )
        return Fitted(fitted, references)
    rectifier = fit_rectifier(references, recipe.lam)
    return _with_lists(predictor, recipe, rectifier, references, pool.rows[members])


def _with_lists(predictor: Predictor, recipe: Recipe, rectifier: Rectifier, references: References, rows: np.ndarray) -> Fitted:
    """A rectifier with what its references say of lists and signs; none where they were not left out, or control not halved."""
    screen = predictor.screen
    if screen.halves is None or recipe.cross_fitting == "in_sample" or len(rows) < MIN_REFERENCES:
        return Fitted(rectifier, references)
    halves = screen.halves.subset(rows)
    rule = discoveries_of(rectifier, references, screen.is_listable, halves, recipe.smallest_effect)
    return Fitted(rectifier, references, rule, signs_of(rectifier, references, screen.is_listable))


def effect_of_any(rectifier: Rectifier | HierarchicalRectifier, references: References) -> np.ndarray:
    """Effect (G,) that a target would be said to have of which nothing is known: the mean prediction, rectified."""
    filled = references.without_own_genes()
    if not len(references.effect):
        return np.zeros(references.effect.shape[1])
    predicted = {name: values.mean(axis=0, keepdims=True) for name, values in filled.predicted.items()}
    return rectifier.estimate(predicted).effect[0]


def is_told_apart(estimate: Estimate, of_any: np.ndarray) -> bool:
    """Whether an estimate (G,) differs from what would be said of any target by more than a tenth of its standard errors.

    Root mean squares over genes are compared; without standard errors nothing is told apart.

    Examples
    --------
    >>> estimate = Estimate(np.array([1.0, 0.0]), np.ones(2), np.full(2, 9.0))
    >>> is_told_apart(estimate, np.zeros(2)), is_told_apart(estimate, estimate.effect + 0.01)
    (True, False)
    """
    return bool(np.sqrt(np.mean((estimate.effect - of_any) ** 2)) > TOLD_APART * np.sqrt(np.mean(estimate.se**2)))


def q_values_of(
    predictor: Predictor, rule: DiscoveryRule | None, names: Sequence[str], effect: np.ndarray
) -> Sequence[np.ndarray | None]:
    """Q-values (G,) of every target, its own genes not among the listed; None without a rule."""
    if rule is None:
        return [None] * len(names)
    listable = np.repeat(predictor.screen.is_listable[None], len(names), axis=0)
    for i, name in enumerate(names):
        listable[i, predictor.space.own_genes(name)] = False
    return list(rule.q_values(effect, listable, neighbour_coherence(predictor.space, names)))
