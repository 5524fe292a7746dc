"""Reference perturbations predicted as if they had not been measured, three ways, one interface."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion._words import say
from dbdiffusion.embedding import nearest_similarity, neighbour_coherence, one_gene_space
from dbdiffusion.inference import MIN_REFERENCES, References
from dbdiffusion.screen import norm_cv

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dbdiffusion.embedding import EffectSpace, LeftOutSpaces, PerturbationSpace
    from dbdiffusion.predict._generator import Generator
    from dbdiffusion.predict._predictor import Predictor
    from dbdiffusion.predict._recipe import Recipe

    Placement = tuple[PerturbationSpace, list[int]]  # a space, and the rows of the screen that it places

CONTROL_SHARE = 0.5  # of the control's error, in the generated mean: about nothing was measured, and this is with care
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
    for generator, folds in _crossfits(predictor, recipe.cross_fitting, spaces):
        placed, rest = _by_placement(folds, screen.names, screen.observed.has_variance)
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
        control_share={GENERATED: 1.0 if recipe.cross_fitting == "in_sample" else CONTROL_SHARE},
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

    Perturbations whose own variance is unknown (a single cell) are no references: nobody knows how far they are from the truth.
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
        parts = space.parts(name)
        rows = [row for part in parts if len(parts) > 1 and (row := space.row(part)) is not None]
        answer[i] = observed.variance[rows].sum(axis=0)
    return answer


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
