"""Reference perturbations predicted as if they had not been measured, three ways, one interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dbdiffusion.embedding import GeneSpace, fit_space
from dbdiffusion.inference import MIN_REFERENCES, References
from dbdiffusion.model._generate import GenerationOptions, Generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.diffusion import LatentDiffusion
    from dbdiffusion.embedding import PerturbationSpace

CROSS_FITTING = ("k_fold", "embedding", "in_sample")
GENERATED = "generated"
LINEAR = ("knn", "ridge", "table", "table_knn")  # strategies whose effects are predictors beside the generated mean


@dataclass(frozen=True)
class ReferencePool:
    """All references with their predictions; :meth:`select` picks those that are like a target.

    Parameters
    ----------
    rows
        (K,) rows of the screen.
    predicted
        Predictor to (K, G).
    is_combination
        (K,).
    """

    rows: np.ndarray
    predicted: dict[str, np.ndarray]
    is_combination: np.ndarray

    def select(self, *, combination: bool) -> np.ndarray:
        """Members (indices into ``rows``) of the target's kind, or all of them where fewer than three are."""
        same = np.flatnonzero(self.is_combination == combination)
        return same if len(same) >= MIN_REFERENCES else np.arange(len(self.rows))


def reference_pool(model: Any, cross_fitting: str, options: GenerationOptions, n_cells: int) -> ReferencePool:
    """Predict every measured perturbation that could have been predicted without its cells.

    Parameters
    ----------
    model
        With both stages trained, and folds for ``"k_fold"``.
    cross_fitting
        ``"k_fold"``: the diffusion retrained without the fold's cells, effects and embeddings. ``"embedding"``: the same
        networks, but the embedding that the perturbation would have had. ``"in_sample"``: as measured (the paper).
    options, n_cells
        How means are generated.
    """
    screen = model._screen()
    rows: list[int] = []
    blocks: list[dict[str, np.ndarray]] = []
    for space, diffusion, left_out in _ways(model, cross_fitting):
        kept = [i for i in left_out if space.can_embed(screen.names[i])]
        if kept:
            rows += kept
            names = [screen.names[i] for i in kept]
            blocks.append(predictions(model, space, diffusion, names, options, n_cells, cross_fitting)[0])
    genes = len(screen.var_names)
    predicted = {
        name: np.concatenate([block[name] for block in blocks]) if blocks else np.zeros((0, genes))
        for name in predictors(model, cross_fitting)
    }
    order = np.argsort(rows) if rows else np.zeros(0, dtype=int)
    parts = [model._space().parts(screen.names[i]) for i in np.sort(rows)] if rows else []
    return ReferencePool(
        rows=np.sort(np.array(rows, dtype=int)),
        predicted={name: values[order] for name, values in predicted.items()},
        is_combination=np.array([len(p) > 1 for p in parts], dtype=bool),
    )


def predictors(model: Any, cross_fitting: str) -> tuple[str, ...]:
    """Predictors that are stacked: the generated mean, and the linear strategies that this screen allows.

    In sample there is only the former: a linear strategy would be handed the observed effect itself.
    """
    ranking = model._space().ranking
    return (GENERATED, *(s for s in LINEAR if s in ranking and cross_fitting != "in_sample"))


def predictions(
    model: Any,
    space: PerturbationSpace,
    diffusion: LatentDiffusion,
    names: Sequence[str],
    options: GenerationOptions,
    n_cells: int,
    cross_fitting: str,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Every predictor's effects (n, G) for named perturbations, and the Monte-Carlo variance of the generated ones."""
    generator = Generator(model.module, diffusion, model._screen(), options)
    conditions = model._as_condition(space.embed(names)).to(model.device)
    control = model._as_condition(space.control[None])[0].to(model.device)
    generated, noise = generator.effects(conditions, control, n_cells)
    linear = {
        strategy: space.with_ranking((strategy, *(s for s in space.ranking if s != strategy))).predict_effect(names)
        for strategy in predictors(model, cross_fitting)
        if strategy != GENERATED
    }
    return {GENERATED: generated, **linear}, noise


def references_of(model: Any, pool: ReferencePool, members: np.ndarray) -> References:
    """What inference needs of some members of the pool."""
    screen, space = model._screen(), model._space()
    rows = pool.rows[members]
    observed = screen.observed.subset(rows)
    return References(
        effect=observed.effect,
        variance=observed.variance,
        control_variance=observed.control_variance.mean(axis=0) if len(rows) else np.zeros(len(screen.var_names)),
        predicted={name: values[members] for name, values in pool.predicted.items()},
        own_genes=tuple(space.own_genes(screen.names[i]) for i in rows),
    )


def _ways(model: Any, cross_fitting: str) -> list[tuple[PerturbationSpace, LatentDiffusion, list[int]]]:
    """Triples of space, diffusion and the rows that the two predict."""
    screen, space = model._screen(), model._space()
    everyone = list(range(len(screen.names)))
    if cross_fitting == "in_sample":
        return [(space, model.module.diffusion, everyone)]
    if cross_fitting == "embedding":
        return [(space.leave_out(screen.names[i]), model.module.diffusion, [i]) for i in everyone] if len(everyone) > 2 else []
    if cross_fitting != "k_fold":
        msg = f"`cross_fitting` must be one of {list(CROSS_FITTING)}, got {cross_fitting!r}."
        raise ValueError(msg)
    folds = model.cross_fit_["folds"]
    return [
        (_fold_space(model, stored), diffusion, list(np.flatnonzero(folds == fold)))
        for fold, (stored, diffusion) in enumerate(zip(model.cross_fit_["spaces"], model.module.folds, strict=False))
    ]


def _fold_space(model: Any, stored: dict) -> PerturbationSpace:
    screen = model._screen()
    kept = stored["kept"]
    return fit_space(
        [screen.names[i] for i in kept],
        screen.observed.subset(kept),
        GeneSpace(screen.genes.names, stored["vectors"]),
        model.module.n_embedding,
        stored["ranking"],
        model._user_vectors(),
        screen.separator,
    )
