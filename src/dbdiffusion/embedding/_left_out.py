"""Where the perturbations of a screen would lie, had those of each fold not been measured."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.embedding._effect_space import EffectSpace, fit_effect_space
from dbdiffusion.embedding._select import score_strategies
from dbdiffusion.embedding._space import PerturbationSpace, fit_space
from dbdiffusion.screen import Fold, GeneSpace, LeftOut, ObservedEffects, Screen, SpaceWithout, split_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

FALLBACK = "mean"  # of genes that no strategy learns to place
MAX_GROUPS, MIN_GROUPS = 80, 10  # of perturbations, left out of screens that were saved without folds
MAX_LEFT_OUT = 400


@dataclass(frozen=True)
class LeftOutSpaces:
    """Perturbation spaces of a screen without its folds; what is left out has no part in gene space, axes or strategy.

    Parameters
    ----------
    screen
        With :attr:`Screen.left_out`.
    n_embedding, user_vectors, separator
        As in :func:`fit_space`.
    strategy
        ``"auto"``: the best on other folds. Any other word is the only one.
    joint
        Names and effects whose principal components are the axes; None means the screen's own.
    left_out
        Of the screen, or of one that shares its gene space.

    Examples
    --------
    What is left out of a fold has no part in its space:

    >>> space, rows = model.predictor().left_out.folds()[0]
    >>> names = [model.perturbation_names[i] for i in rows]
    >>> any(space.is_measured(name) for name in names)
    False
    """

    screen: Screen
    n_embedding: int
    left_out: LeftOut
    user_vectors: pd.DataFrame | None = None
    strategy: str = "auto"
    joint: tuple[Sequence[str], np.ndarray] | None = None
    _genes: dict[int, GeneSpace] = field(default_factory=dict, repr=False)
    _axes: dict[int, EffectSpace] = field(default_factory=dict, repr=False)
    _rankings: dict[int | None, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def folds(self) -> list[tuple[PerturbationSpace, list[int]]]:
        """For every fold its space, and the rows of the screen that are scored in it; folds without rows are left out."""
        row = {name: i for i, name in enumerate(self.screen.names)}
        scored = [[row[name] for name in fold.scored if name in row] for fold in self.left_out.folds]
        return [(self.space(i, self.ranking(i)), rows) for i, rows in enumerate(scored) if rows and self._rows_of(i).size]

    def scores(self, fold: int | None = None) -> pd.DataFrame:
        """:func:`score_strategies` on all folds, or, without a fold, on its neighbours."""
        effect = dict(zip(self.screen.names, self.screen.observed.effect, strict=True))
        if fold is None:
            asked = list(enumerate(one.scored for one in self.left_out.folds))
        else:
            asked = [(space, self.left_out.folds[other].scored) for other, space in self.left_out.inner[fold]]
        placed = [
            (self.space(i, ("ridge",)), [name for name in names if name in effect])
            for i, names in asked
            if self._rows_of(i).size
        ]
        return score_strategies(placed, effect, has_table=self.user_vectors is not None)

    def ranking(self, fold: int | None = None) -> tuple[str, ...]:
        """Strategies, best first, for targets, or for the perturbations of a fold as if they were targets."""
        if self.strategy != "auto":
            return (self.strategy,)
        if fold not in self._rankings:
            is_judged = fold is None or bool(self.left_out.inner[fold])
            found = tuple(self.scores(fold).index) if is_judged else self.ranking()
            self._rankings[fold] = found if FALLBACK in found else (*(found or ("ridge",)), FALLBACK)
        return self._rankings[fold]

    def space(self, index: int, ranking: Sequence[str]) -> PerturbationSpace:
        """The perturbations that one of the spaces keeps, on axes of their own."""
        kept, without = self._rows_of(index), self.left_out.spaces[index]
        if index not in self._genes:
            self._genes[index] = GeneSpace(self.screen.genes.names, without.vectors)
            self._axes[index] = self._fit_axes(kept, without)
        return fit_space(
            [self.screen.names[i] for i in kept],
            self.screen.observed.subset(kept),
            self._genes[index],
            self.n_embedding,
            ranking,
            self.user_vectors,
            self.screen.separator,
            places_anything=self.strategy == FALLBACK,
            axes=self._axes[index],
        )

    def permuted(self, seed: int) -> LeftOutSpaces:
        """A placebo: the vectors of single perturbations (of their genes, or a user's own) permuted among them.

        Strategies and their ranking stay those of the screen, so that only what is known of perturbations is destroyed.
        """
        rng = np.random.default_rng(seed)
        singles = [
            name for name in self.screen.names if split_name(name, self.screen.separator, self.screen.genes.names) == (name,)
        ]
        genes = _dealt_out(self.screen.genes.names, singles, rng)
        table = self.user_vectors
        if table is not None:
            table = table.iloc[_dealt_out(table.index, singles, rng)].set_axis(table.index, axis=0)
        for i in range(len(self.left_out.folds)):
            self.ranking(i)
            if self._rows_of(i).size:
                self.space(i, ("ridge",))  # so that its genes and axes are there to share
        return replace(
            self,
            user_vectors=table,
            _genes={i: space.permuted(genes) for i, space in self._genes.items()},
            _axes=self._axes,
            _rankings=self._rankings,
        )

    def _rows_of(self, index: int) -> np.ndarray:
        excluded = set(self.left_out.spaces[index].excluded)
        return np.array([i for i, name in enumerate(self.screen.names) if name not in excluded], dtype=int)

    def _fit_axes(self, kept: np.ndarray, without: SpaceWithout) -> EffectSpace:
        if self.joint is None:
            return fit_effect_space(self.screen.observed.effect[kept], without.noise, self.n_embedding)
        names, effect = self.joint
        excluded = set(without.excluded)
        return fit_effect_space(effect[[name not in excluded for name in names]], without.noise, self.n_embedding)


def _dealt_out(index: pd.Index, names: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Positions of an index, those of the names permuted among them."""
    found = index.get_indexer(list(names))
    found = found[found >= 0]
    rows = np.arange(len(index))
    rows[found] = rng.permutation(found)
    return rows


def one_gene_space(names: Sequence[str], observed: ObservedEffects, vectors: np.ndarray) -> LeftOut:
    """Folds of a screen that was saved without any: their cells are in gene space, which flatters every strategy.

    One perturbation a fold up to 80 of them, groups above.

    Examples
    --------
    >>> one = np.ones((4, 7))
    >>> observed = ObservedEffects(one, one, one, one, 9.0, one, np.full(4, 5))
    >>> len(one_gene_space("ABCD", observed, np.ones((7, 2))).folds)
    4
    """
    n = len(names)
    groups = MAX_GROUPS * min(1.0, MAX_LEFT_OUT / max(n, 1))
    group = np.arange(n) % max(1, min(n, max(MIN_GROUPS, round(groups))))
    folds, spaces = [], []
    for one in np.unique(group) if n > 2 else ():
        scored = tuple(names[int(i)] for i in np.flatnonzero(group == one))
        kept = observed.subset(np.flatnonzero(group != one))
        folds.append(Fold(scored, scored))
        spaces.append(SpaceWithout(scored, vectors, kept.mean_noise()))
    return LeftOut(tuple(folds), tuple(spaces), tuple(() for _ in folds))
