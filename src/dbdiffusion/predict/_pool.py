"""Reference perturbations predicted as if they had not been measured, three ways, one interface."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion._words import say
from dbdiffusion.embedding import nearest_similarity, neighbour_coherence, one_gene_space
from dbdiffusion.inference import (
    MIN_REFERENCES,
    PERMUTATIONS,
    DiscoveryRule,
    Estimate,
    Rectifier,
    References,
    SignLaws,
    Signs,
    discoveries_of,
    fit_rectifier,
    fit_sign_law,
    placebo_evidence,
    signs_of,
    supports,
)
from dbdiffusion.screen import norm_cv

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbdiffusion.embedding import EffectSpace, LeftOutSpaces, PerturbationSpace
    from dbdiffusion.inference import HierarchicalRectifier
    from dbdiffusion.predict._generator import Generator
    from dbdiffusion.predict._predictor import Predictor, Recipe

    Placement = tuple[PerturbationSpace, list[int]]  # a space, and the rows of the screen that it places


GENERATED = "generated"
DIRECT = ("knn", "ridge", "table", "table_knn")  # strategies whose effects are predictors beside the generated mean


@dataclass(frozen=True)
class ReferencePool:
    """All references with their predictions; :meth:`select` picks those that are like a target.

    Parameters
    ----------
    rows
        (K,) rows of the screen.
    names
        Of the K.
    predicted
        Predictor to (K, G).
    is_combination, is_placed
        (K,). What is not placed is predicted by the mean of the others.
    coherence
        (K,) agreement of the neighbours of each; None for a placebo, which lists nothing.
    similarity
        (K,) of each with the nearest of the others; None for a placebo.
    control_share
        Predictor to the share of the control's error that its predictions are taken to carry.

    Examples
    --------
    >>> from dbdiffusion.predict import GenerationOptions, Recipe
    >>> pool = model.predictor().references(Recipe(GenerationOptions(), n_cells=64))
    >>> len(pool.select(combination=False)) == len(pool.names), sorted(pool.predicted)
    (True, ['generated', 'knn', 'ridge'])
    """

    rows: np.ndarray
    names: tuple[str, ...]
    predicted: dict[str, np.ndarray]
    is_combination: np.ndarray
    is_placed: np.ndarray
    coherence: np.ndarray | None = None
    similarity: np.ndarray | None = None
    control_share: dict[str, float] = field(default_factory=dict)

    def select(self, *, combination: bool) -> np.ndarray:
        """Members (indices into ``rows``) of the target's kind, or all of them where fewer than three are."""
        same = np.flatnonzero(self.is_combination == combination)
        return same if len(same) >= MIN_REFERENCES else np.arange(len(self.rows))


def reference_pool(predictor: Predictor, recipe: Recipe, spaces: LeftOutSpaces | None = None) -> ReferencePool:
    """Predict every measured perturbation without its cells.

    Parameters
    ----------
    predictor
        With folds for ``"k_fold"``.
    recipe
        Its ``cross_fitting`` is ``"embedding"``: the same networks, but the embedding that the perturbation would have had, by
        gene space, principal components and strategies made without its fold; ``"k_fold"``: the diffusion retrained without
        the fold's cells too; or ``"in_sample"``: as measured (the paper). The VAE has seen all measured cells in every case.
    spaces
        Without each fold, for ``"embedding"``, of a placebo; None means the screen's own.
    """
    screen, space = predictor.screen, predictor.space
    own = spaces is None and recipe.cross_fitting != "in_sample"  # a placebo knows nothing, so it has no other model either
    blocks: list[tuple[list[int], dict[str, np.ndarray]]] = []
    placements: list[Placement] = []
    unplaced: set[int] = set()
    has_variance = screen.observed.has_variance
    is_known = has_variance & np.array([has_variance[_added_parts(space, name)].all() for name in screen.names], dtype=bool)
    for generator, folds in _crossfits(predictor, recipe.cross_fitting, spaces):
        placed, rest = _by_placement(folds, screen.names, is_known)
        unplaced.update(row for _, rows in rest for row in rows)
        groups = [(one, [screen.names[row] for row in rows]) for one, rows in (*placed, *rest)]
        rows = [row for _, kept in (*placed, *rest) for row in kept]
        if rows:
            blocks.append((rows, predictions(predictor, generator, groups, recipe, own)[0]))
            placements += [*placed, *rest]
    rows = [row for block, _ in blocks for row in block]
    order = np.argsort(rows)
    none = np.zeros((0, len(screen.var_names)))
    names = tuple(screen.names[row] for row in sorted(rows))
    return ReferencePool(
        rows=np.array(rows, dtype=int)[order],
        names=names,
        predicted={
            name: np.concatenate([none, *(values[name] for _, values in blocks)])[order]
            for name in (*predictors(space, recipe.cross_fitting), *(predictor.own if own else ()))
        },
        is_combination=np.array([len(space.parts(name)) > 1 for name in names], dtype=bool),
        is_placed=np.array([row not in unplaced for row in sorted(rows)], dtype=bool),
        coherence=None if spaces is not None else _of_each(neighbour_coherence, placements, screen.names, names),
        similarity=None if spaces is not None else _of_each(nearest_similarity, placements, screen.names, names),
        # trained on cells of all perturbations, it does not repeat the mean of a few control cells, unless told the effects
        control_share={GENERATED: float(recipe.cross_fitting == "in_sample")},
    )


def _of_each(
    what: Callable[[PerturbationSpace, Sequence[str]], np.ndarray],
    placements: list[Placement],
    screen_names: Sequence[str],
    names: tuple[str, ...],
) -> np.ndarray:
    """What is known (K,) of the place of every reference, in the space that places it without its cells."""
    found: dict[str, float] = {}
    for space, rows in placements:
        members = [screen_names[row] for row in rows]
        found |= dict(zip(members, what(space, members), strict=True))
    return np.array([found[name] for name in names])


def _by_placement(
    folds: list[Placement], names: Sequence[str], is_known: np.ndarray
) -> tuple[list[Placement], list[Placement]]:
    """Rows that the ways of a fold can place, and the others, of which the mean of the measured is all that can be said.

    Perturbations of unknown variance are no references: nobody knows how far they are from the truth. They have a single cell,
    or a part has that is added.
    """
    placed, rest = [], []
    for space, all_rows in folds:
        rows = [row for row in all_rows if is_known[row]]
        inside = [row for row in rows if space.can_embed(names[row])]
        outside = [row for row in rows if row not in inside]
        if inside:
            placed.append((space, inside))
        if outside and len(space.names):
            rest.append((space.with_ranking(("mean",), places_anything=True), outside))
    return placed, rest


def predictors(space: PerturbationSpace, cross_fitting: str) -> tuple[str, ...]:
    """Predictors that are stacked: the generated mean, and the effects that the strategies of this screen read off.

    For a combination of measured parts every strategy says the same: the sum of the parts' effects.

    In sample there is only the former: a linear strategy would be handed the observed effect itself.
    """
    if cross_fitting == "in_sample":
        return (GENERATED,)
    return (GENERATED, *(tuple(s for s in DIRECT if s in space.ranking) or space.ranking[:1]))


def predictions(
    predictor: Predictor,
    generator: Generator,
    groups: Sequence[tuple[PerturbationSpace, Sequence[str]]],
    recipe: Recipe,
    own: bool | None = None,
    *,
    generated: bool = True,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every predictor's effects (n, G), and the Monte-Carlo variance of the generated ones.

    Parameters
    ----------
    predictor
        Of the screen.
    generator
        Its own, or a fold's.
    groups
        Names and the space that places them.
    recipe
        How means are generated.
    own
        Whether predictors that were added count too; None means unless in sample.
    generated
        Whether cells are generated; zeros stand for their effects and variance otherwise.

    Examples
    --------
    >>> from dbdiffusion.predict import GenerationOptions, Recipe
    >>> predictor = model.predictor()
    >>> recipe = Recipe(GenerationOptions(), n_cells=64)
    >>> effects, variance = predictions(predictor, predictor.generator, [(predictor.space, unseen)], recipe)
    >>> {name: values.shape == (2, adata.n_vars) for name, values in effects.items()}
    {'generated': True, 'knn': True, 'ridge': True}
    """
    groups = [(space, names) for space, names in groups if len(names)]
    trained_on = groups[0][0].effects if recipe.cross_fitting == "k_fold" else predictor.space.effects
    embeddings = np.concatenate([_on_axes(trained_on, space, names) for space, names in groups])
    effects = noise = np.zeros((len(embeddings), len(predictor.screen.var_names)))
    if generated:
        effects, noise = generator.effects(embeddings, trained_on.control, recipe.n_cells, recipe.options)
    direct = {
        strategy: np.concatenate([_preferring(space, strategy).predict_effect(names) for space, names in groups])
        for strategy in predictors(predictor.space, recipe.cross_fitting)
        if strategy != GENERATED
    }
    brought = {}
    if recipe.cross_fitting != "in_sample" if own is None else own:
        brought = {name: table.of([one for _, names in groups for one in names]) for name, table in predictor.own.items()}
    return {GENERATED: effects, **direct, **brought}, noise


def _on_axes(axes: EffectSpace, space: PerturbationSpace, names: Sequence[str]) -> np.ndarray:
    """Embeddings (n, E) on the axes a network was trained on; of a fold, by way of the predicted effect."""
    embedding = space.embed(names)
    return embedding if space.effects is axes else axes.to_embedding(space.effects.to_effect(embedding))


def _preferring(space: PerturbationSpace, strategy: str) -> PerturbationSpace:
    return space.with_ranking((strategy, *(other for other in space.ranking if other != strategy)))


def references_of(predictor: Predictor, pool: ReferencePool, members: np.ndarray) -> References:
    """What inference needs of some members of the pool.

    Examples
    --------
    >>> from dbdiffusion.predict import GenerationOptions, Recipe
    >>> predictor = model.predictor()
    >>> pool = predictor.references(Recipe(GenerationOptions(), n_cells=64))
    >>> references = references_of(predictor, pool, np.arange(4))
    >>> references.effect.shape == (4, adata.n_vars)
    True
    """
    screen, space = predictor.screen, predictor.space
    rows = pool.rows[members]
    observed = screen.observed.subset(rows)
    control_variance = observed.control_variance.mean(axis=0) if len(rows) else np.zeros(len(screen.var_names))
    return References(
        effect=observed.effect,
        variance=observed.variance,
        control_variance=control_variance,
        predicted={name: values[members] for name, values in pool.predicted.items()},
        own_genes=tuple(space.own_genes(screen.names[i]) for i in rows),
        control_norm_cv=norm_cv(control_variance, screen.vectors),
        control_share=pool.control_share,
        placed=pool.is_placed[members],
        coherence=None if pool.coherence is None else pool.coherence[members],
        part_variance=part_variance(predictor, pool.names)[members],
    )


def part_variance(predictor: Predictor, names: Sequence[str]) -> np.ndarray:
    """Sampling variance (n, G) of the measured parts whose effects a combination's prediction adds; zero for single ones."""
    observed, space = predictor.screen.observed, predictor.space
    answer = np.zeros((len(names), observed.effect.shape[1]))
    for i, name in enumerate(names):
        answer[i] = observed.variance[_added_parts(space, name)].sum(axis=0)
    return answer


def _added_parts(space: PerturbationSpace, name: str) -> list[int]:
    """Rows of the measured parts whose effects the prediction of a combination adds; none of a single perturbation."""
    parts = space.parts(name)
    return [row for part in parts if len(parts) > 1 and (row := space.row(part)) is not None]


def _crossfits(
    predictor: Predictor, cross_fitting: str, spaces: LeftOutSpaces | None
) -> list[tuple[Generator, list[Placement]]]:
    """Generators, and for each the spaces and the rows that they place without their cells."""
    own = predictor.generator
    if cross_fitting == "in_sample":
        return [(own, [(predictor.space, list(range(len(predictor.screen.names))))])]
    if cross_fitting == "embedding":
        return [(own, _folds(predictor) if spaces is None else spaces.folds())]
    return [(own.of_fold(fold.diffusion), [(fold.space, list(fold.rows))]) for fold in predictor.retrained]


def _folds(predictor: Predictor) -> list[Placement]:
    """Every fold's space and rows; of a model saved before there were folds the rows alone are left out, which flatters."""
    screen = predictor.screen
    if screen.left_out is not None:
        return predictor.left_out.folds()
    say(
        "This model was saved by a version that left cells of a reference in gene space, so its evidence is too good. "
        "With its training cells, `model.leave_out_folds()` mends that.",
        UserWarning,
    )
    folds = one_gene_space(screen.names, screen.observed, screen.vectors).folds
    row = {name: i for i, name in enumerate(screen.names)}
    return [(predictor.space.leave_out(*fold.scored), [row[name] for name in fold.scored]) for fold in folds]


# What predicts unseen targets: a rectifier with its references, and the rule that lists genes; what it says of any target.


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
    def sign_law(self) -> SignLaws | None:
        """How often a predicted sign is wrong; None with too few references to tell."""
        return None if self.signs is None else fit_sign_law(self.signs)

    def lfsr(
        self, estimate: Estimate, listable: np.ndarray, known: np.ndarray | float, coherence: np.ndarray | float
    ) -> np.ndarray:
        """Local false sign rates (n, G) of targets; half of the p-values where no law of signs is known.

        Parameters
        ----------
        estimate
            Of the targets.
        listable
            (n, G) genes that left-out signs speak of; others have none.
        known
            Variance of the predictions by what is drawn and added, beside that of the control's error.
        coherence
            (n, 1) of the targets' neighbours; 1 where the references' is not known.
        """
        law, rectifier = self.sign_law, self.rectifier
        if law is None or not isinstance(rectifier, Rectifier):
            wrong = estimate.p_value() / 2
        else:
            support = supports(rectifier.tau**2, self.references.typical_noise, coherence)
            wrong = law.wrong(estimate.effect, rectifier.tau**2, rectifier.control_variance + known, support)
        return np.where(listable, wrong, np.nan)


def rectified(predictor: Predictor, recipe: Recipe, pool: ReferencePool, members: np.ndarray) -> tuple[References, Rectifier]:
    """Some members of the pool, and the rectifier that is fitted to them.

    The control's error is taken out as far as it is known, unless a weight is given: that asks for the plain estimator.
    """
    references = references_of(predictor, pool, members)
    if recipe.lam is None and recipe.cross_fitting != "in_sample":
        references = references.corrected()
    return references, fit_rectifier(references, recipe.lam)


def fit(predictor: Predictor, recipe: Recipe, pool: ReferencePool, members: np.ndarray) -> Fitted:
    """Fit what predicts targets like some members of the pool."""
    if recipe.method == "hierarchical" and len(members) >= MIN_REFERENCES:
        from dbdiffusion.inference import fit_hierarchical  # the only part that needs Pyro

        references = references_of(predictor, pool, members)
        fitted = fit_hierarchical(references, seed=recipe.options.seed)
        if not fitted.converged:
            say(
                "The hierarchical model has not converged: its evidence bound still moves. Compare with `method='cross_fit'`.",
                UserWarning,
            )
        return Fitted(fitted, references)
    references, rectifier = rectified(predictor, recipe, pool, members)
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


def listable_genes(predictor: Predictor, names: Sequence[str]) -> np.ndarray:
    """Genes (n, G) that the list of a target can name: enough cells express them, and the target does not hit them."""
    listable = np.repeat(predictor.screen.is_listable[None], len(names), axis=0)
    for i, name in enumerate(names):
        listable[i, predictor.space.own_genes(name)] = False
    return listable


# A placebo that every screen can run: tuning with what is known of perturbations permuted among them.


N_CELLS = 16  # generated for a placebo's mean; it says nothing however many there are
COLUMNS = ["weight", "relative_to_mean", "relative_to_zero"]


def placebo(predictor: Predictor, recipe: Recipe, members: np.ndarray) -> pd.DataFrame:
    """Weight and left-out error of single references whose gene vectors were permuted among them, one row a permutation.

    Parameters
    ----------
    predictor
        Of the screen.
    recipe
        How references are predicted.
    members
        Rows of the reference pool that are judged.

    Returns
    -------
    DataFrame
        ``weight`` of the centred predictors, which should be zero, and squared error of the left-out predictions
        ``relative_to_mean`` and ``relative_to_zero``. Empty where folds are retrained or a model has none: then a permutation
        would be a training of its own.
    """
    if recipe.cross_fitting != "embedding" or predictor.screen.left_out is None:
        return pd.DataFrame(columns=COLUMNS, dtype=float)
    rows = []
    for permutation in predictor.generator.track(range(PERMUTATIONS)):
        options = replace(recipe.options, seed=recipe.options.seed + permutation)
        spaces = predictor.left_out.permuted(options.seed)
        pool = reference_pool(predictor, replace(recipe, options=options, n_cells=N_CELLS), spaces)
        weight, evidence = placebo_evidence(references_of(predictor, pool, members).corrected())
        rows.append((weight, evidence.ratio("mean")[0], evidence.ratio("zero")[0]))
    return pd.DataFrame(rows, columns=COLUMNS)
