"""Reference perturbations predicted as if they had not been measured, three ways, one interface."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dbdiffusion.data import say
from dbdiffusion.embedding import fit_effect_space, fit_space, neighbour_coherence, one_gene_space
from dbdiffusion.inference import MIN_REFERENCES, References
from dbdiffusion.model._generate import GenerationOptions, Generator
from dbdiffusion.model._reference_sets import restricted_sets, weights_of_others
from dbdiffusion.screen import GeneSpace, norm_cv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.diffusion import LatentDiffusion
    from dbdiffusion.embedding import EffectSpace, LeftOutSpaces, PerturbationSpace
    from dbdiffusion.screen import Screen

CROSS_FITTING = ("embedding", "k_fold", "in_sample")
CONTROL_SHARE = 0.5  # of the control's error, in the generated mean: about nothing was measured, and this is with care
MOST_WEIGHT = 1.0  # of the generated mean: blown up, small effects are mostly what the few references happen to have in common
GENERATED = "generated"
LINEAR = ("knn", "ridge", "table", "table_knn")  # strategies whose effects are predictors beside the generated mean


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
    sets
        Reference set to weights (K, K) of the others.
    is_combination, is_placed
        (K,). What is not placed is predicted by the mean of the others.
    coherence
        (K,) agreement of the neighbours of each; None for a placebo, which lists nothing.
    control_share
        Predictor to the share of the control's error that its predictions are taken to carry.
    """

    rows: np.ndarray
    names: tuple[str, ...]
    predicted: dict[str, np.ndarray]
    sets: dict[str, np.ndarray]
    is_combination: np.ndarray
    is_placed: np.ndarray
    coherence: np.ndarray | None = None
    control_share: dict[str, float] = field(default_factory=dict)

    def select(self, *, combination: bool) -> np.ndarray:
        """Members (indices into ``rows``) of the target's kind, or all of them where fewer than three are."""
        same = np.flatnonzero(self.is_combination == combination)
        return same if len(same) >= MIN_REFERENCES else np.arange(len(self.rows))


def reference_pool(
    model: Any, cross_fitting: str, options: GenerationOptions, n_cells: int, spaces: LeftOutSpaces | None = None
) -> ReferencePool:
    """Predict every measured perturbation without its cells.

    Parameters
    ----------
    model
        With both stages trained, and folds for ``"k_fold"``.
    cross_fitting
        ``"embedding"``: the same networks, but the embedding that the perturbation would have had, by gene space, principal
        components and strategies made without its fold. ``"k_fold"``: the diffusion retrained without the fold's cells too.
        ``"in_sample"``: as measured (the paper). The VAE has seen all measured cells in every case.
    options, n_cells
        How means are generated.
    spaces
        Without each fold, for ``"embedding"``, of a placebo, which has no reference sets; None means the screen's own.
    """
    screen, space = model._screen(), model._space()
    blocks: list[tuple[list[int], dict[str, np.ndarray]]] = []
    placements: list[tuple[PerturbationSpace, list[int]]] = []
    unplaced: set[int] = set()
    for diffusion, folds in _ways(model, cross_fitting, spaces):
        placed, rest = _by_placement(folds, screen.names, screen.observed.has_variance)
        unplaced.update(row for _, rows in rest for row in rows)
        groups = [(way, [screen.names[row] for row in rows]) for way, rows in (*placed, *rest)]
        rows = [row for _, kept in (*placed, *rest) for row in kept]
        if rows:
            blocks.append((rows, predictions(model, diffusion, groups, options, n_cells, cross_fitting)[0]))
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
            for name in predictors(model, cross_fitting)
        },
        sets={} if spaces is not None else weights_of_others(placements, screen.names, names),
        is_combination=np.array([len(space.parts(name)) > 1 for name in names], dtype=bool),
        is_placed=np.array([row not in unplaced for row in sorted(rows)], dtype=bool),
        coherence=None if spaces is not None else _coherence(placements, screen.names, names),
        control_share={GENERATED: 1.0 if cross_fitting == "in_sample" else CONTROL_SHARE},
    )


def _coherence(
    placements: list[tuple[PerturbationSpace, list[int]]], screen_names: Sequence[str], names: tuple[str, ...]
) -> np.ndarray:
    """Agreement (K,) of the neighbours of every reference, in the space that places it without its cells."""
    found: dict[str, float] = {}
    for space, rows in placements:
        members = [screen_names[row] for row in rows]
        found |= dict(zip(members, neighbour_coherence(space, members), strict=True))
    return np.array([found[name] for name in names])


def _by_placement(
    folds: list[tuple[PerturbationSpace, list[int]]], names: Sequence[str], is_known: np.ndarray
) -> tuple[list[tuple[PerturbationSpace, list[int]]], list[tuple[PerturbationSpace, list[int]]]]:
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


def predictors(model: Any, cross_fitting: str) -> tuple[str, ...]:
    """Predictors that are stacked: the generated mean, and the effects that the strategies of this screen read off.

    For a combination of measured parts every strategy says the same: the sum of the parts' effects.

    In sample there is only the former: a linear strategy would be handed the observed effect itself.
    """
    if cross_fitting == "in_sample":
        return (GENERATED,)
    ranking = model._space().ranking
    return (GENERATED, *(tuple(s for s in LINEAR if s in ranking) or ranking[:1]))


def predictions(
    model: Any,
    diffusion: LatentDiffusion,
    groups: Sequence[tuple[PerturbationSpace, Sequence[str]]],
    options: GenerationOptions,
    n_cells: int,
    cross_fitting: str,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every predictor's effects (n, G), and the Monte-Carlo variance of the generated ones.

    Parameters
    ----------
    groups
        Names and the space that places them.
    """
    groups = [(space, names) for space, names in groups if len(names)]
    generator = Generator(model.module, diffusion, model._screen(), options)
    trained_on = groups[0][0].effects if cross_fitting == "k_fold" else model._space().effects
    conditions = model._as_condition(np.concatenate([_on_axes(trained_on, space, names) for space, names in groups]))
    control = model._as_condition(trained_on.control[None])[0]
    generated, noise = generator.effects(conditions.to(model.device), control.to(model.device), n_cells)
    linear = {
        strategy: np.concatenate([_preferring(space, strategy).predict_effect(names) for space, names in groups])
        for strategy in predictors(model, cross_fitting)
        if strategy != GENERATED
    }
    return {GENERATED: generated, **linear}, noise


def _on_axes(axes: EffectSpace, space: PerturbationSpace, names: Sequence[str]) -> np.ndarray:
    """Embeddings (n, E) on the axes a network was trained on; of a fold, by way of the predicted effect."""
    embedding = space.embed(names)
    return embedding if space.effects is axes else axes.to_embedding(space.effects.to_effect(embedding))


def _preferring(space: PerturbationSpace, strategy: str) -> PerturbationSpace:
    return space.with_ranking((strategy, *(other for other in space.ranking if other != strategy)))


def references_of(model: Any, pool: ReferencePool, members: np.ndarray, reference_set: str = "auto") -> References:
    """What inference needs of some members of the pool."""
    screen, space = model._screen(), model._space()
    rows = pool.rows[members]
    observed = screen.observed.subset(rows)
    control_variance = observed.control_variance.mean(axis=0) if len(rows) else np.zeros(len(screen.var_names))
    return References(
        effect=observed.effect,
        variance=observed.variance,
        control_variance=control_variance,
        predicted={name: values[members] for name, values in pool.predicted.items()},
        own_genes=tuple(space.own_genes(screen.names[i]) for i in rows),
        sets=restricted_sets(
            {name: weights[members] for name, weights in pool.sets.items()}, members, reference_set, np.arange(len(members))
        ),
        control_norm_cv=norm_cv(control_variance, screen.vectors),
        control_share=pool.control_share,
        most_weight={GENERATED: MOST_WEIGHT},
        placed=pool.is_placed[members],
        coherence=None if pool.coherence is None else pool.coherence[members],
        part_variance=part_variance(model, pool.names)[members],
    )


def part_variance(model: Any, names: Sequence[str]) -> np.ndarray:
    """Sampling variance (n, G) of the measured parts whose effects a combination's prediction adds; zero for single ones."""
    observed, space = model._screen().observed, model._space()
    answer = np.zeros((len(names), observed.effect.shape[1]))
    for i, name in enumerate(names):
        parts = space.parts(name)
        rows = [space.row(part) for part in parts if len(parts) > 1 and space.is_measured(part)]
        answer[i] = observed.variance[rows].sum(axis=0)
    return answer


def _ways(
    model: Any, cross_fitting: str, spaces: LeftOutSpaces | None
) -> list[tuple[LatentDiffusion, list[tuple[PerturbationSpace, list[int]]]]]:
    """Diffusions, and for each the spaces and the rows that they place without their cells."""
    screen, space = model._screen(), model._space()
    n = len(screen.names)
    if cross_fitting == "in_sample":
        return [(model.module.diffusion, [(space, list(range(n)))])]
    if cross_fitting == "embedding":
        return [(model.module.diffusion, _folds(model, screen, space) if spaces is None else spaces.folds())]
    folds = model.cross_fit_["folds"]
    return [
        (diffusion, [(_fold_space(model, stored), np.flatnonzero(folds == fold).tolist())])
        for fold, (stored, diffusion) in enumerate(zip(model.cross_fit_["spaces"], model.module.folds, strict=False))
        if len(stored["kept"])
    ]


def _folds(model: Any, screen: Screen, space: PerturbationSpace) -> list[tuple[PerturbationSpace, list[int]]]:
    """Every fold's space and rows; of a model saved before there were folds the rows alone are left out, which flatters."""
    if screen.left_out is not None:
        return model._left_out_spaces(screen).folds()
    say(
        "This model was saved by a version that left cells of a reference in gene space, so its evidence is too good. "
        "With its training cells, `model.leave_out_folds()` mends that.",
        UserWarning,
    )
    folds = one_gene_space(screen.names, screen.observed, screen.vectors).folds
    row = {name: i for i, name in enumerate(screen.names)}
    return [(space.leave_out(*fold.scored), [row[name] for name in fold.scored]) for fold in folds]


def _fold_space(model: Any, stored: dict) -> PerturbationSpace:
    screen, kept = model._screen(), stored["kept"]
    observed = screen.observed.subset(kept)
    noise = stored.get("noise")
    return fit_space(
        [screen.names[i] for i in kept],
        observed,
        GeneSpace(screen.genes.names, stored["vectors"]),
        model.module.n_embedding,
        stored["ranking"],
        model._user_vectors(),
        screen.separator,
        places_anything=model.strategy == "mean",
        axes=None if noise is None else fit_effect_space(observed.effect, noise, model.module.n_embedding),
    )
