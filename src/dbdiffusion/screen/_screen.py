"""The measured screen, small enough to be saved: all that generation and inference need of the cells; and folds over it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion.screen._effects import MIN_EXPRESSING, ControlHalves, ObservedEffects
from dbdiffusion.screen._gene_space import GeneSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


# Folds over perturbations: which are scored together, and what must be left out of everything then.


N_FOLDS = 10
MIN_LEFT = 3  # perturbations, below which nothing could be learnt from those that are left
REACH = 2  # folds on either side on which the strategies of a fold are judged


@dataclass(frozen=True)
class Fold:
    """Perturbations that are predicted as if they had not been measured.

    Parameters
    ----------
    scored
        Names of those that are predicted.
    excluded
        Names whose cells and effects take no part: those, and of single ones every combination that contains one.

    Examples
    --------
    >>> Fold(scored=("A",), excluded=("A", "A+B")).excluded
    ('A', 'A+B')
    """

    scored: tuple[str, ...]
    excluded: tuple[str, ...]


def perturbation_folds(
    parts: Mapping[str, tuple[str, ...]], n_folds: int | tuple[int, int] = N_FOLDS, seed: int = 0
) -> tuple[Fold, ...]:
    """Folds of single perturbations, then folds of combinations, each kind dealt out as equally as can be.

    A single perturbation that is scored takes every combination that contains it along into what is left out. A combination
    that is scored leaves out itself, its parts in any order, and keeps its parts: it is asked what they say.

    Parameters
    ----------
    parts
        Name to parts; a single perturbation is its only part.
    n_folds
        Of single perturbations and of combinations (one number: of each), at most as many as there are of the kind.
    seed
        Of the deal.

    Returns
    -------
    tuple of Fold
        Empty for fewer than three perturbations: none could be learnt from the others.

    Examples
    --------
    >>> folds = perturbation_folds({"A": ("A",), "B": ("B",), "A+B": ("A", "B")})
    >>> [(fold.scored, fold.excluded) for fold in folds]
    [(('A',), ('A', 'A+B')), (('B',), ('A+B', 'B')), (('A+B',), ('A+B',))]
    """
    if len(parts) < MIN_LEFT:
        return ()
    n_single, n_combined = (n_folds, n_folds) if isinstance(n_folds, int) else n_folds
    singles = _dealt([(name,) for name, own in parts.items() if len(own) == 1], n_single, seed)
    by_parts: dict[tuple[str, ...], list[str]] = {}
    for name, own in parts.items():
        if len(own) > 1:
            by_parts.setdefault(tuple(sorted(own)), []).append(name)
    combinations = _dealt([tuple(sorted(names)) for names in by_parts.values()], n_combined, seed)
    folds = []
    for scored in singles:
        hit = {parts[name][0] for name in scored}
        folds.append(Fold(scored, tuple(sorted(name for name, own in parts.items() if hit.intersection(own)))))
    return (*folds, *(Fold(scored, scored) for scored in combinations))


def network_folds(parts: Mapping[str, tuple[str, ...]], n_networks: int, seed: int = 0) -> tuple[Fold, ...]:
    """Folds, one a network; of three networks or more a third leaves combinations out, where there are any.

    Two are needed for single perturbations, or nothing would be left to learn from.

    Examples
    --------
    >>> [fold.scored for fold in network_folds({"A": ("A",), "B": ("B",), "A+B": ("A", "B")}, 3)]
    [('A',), ('B',), ('A+B',)]
    """
    n_combined = n_networks // 3 if any(len(own) > 1 for own in parts.values()) else 0
    return perturbation_folds(parts, (n_networks - n_combined, n_combined), seed)


def inner_folds(folds: tuple[Fold, ...], parts: Mapping[str, tuple[str, ...]]) -> list[tuple[int, ...]]:
    """For every fold the folds of single perturbations on which its strategies are judged: its neighbours on a ring.

    Both folds are left out then, so a pair serves both, and the number of spaces grows with the number of folds and not
    with its square. Combinations of measured parts need no strategy.

    Examples
    --------
    >>> names = {name: (name,) for name in "ABCD"}
    >>> inner_folds(perturbation_folds(names), names)
    [(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)]
    """
    n = sum(len(parts[fold.scored[0]]) == 1 for fold in folds)
    answer: list[tuple[int, ...]] = []
    for i, fold in enumerate(folds):
        neighbours = {(i + step) % n for step in range(-REACH, REACH + 1)} - {i if i < n else -1} if n > 1 else set()
        needed = i < n or any(part not in parts for name in fold.scored for part in parts[name])
        answer.append(tuple(sorted(neighbours)) if needed else ())
    return answer


@dataclass(frozen=True)
class SpaceWithout:
    """Gene space, and the noise of the effects, without the cells and effects of some perturbations.

    Parameters
    ----------
    excluded
        Their names.
    vectors
        (G, R) gene space.
    noise
        (G,) mean sampling variance of the other perturbations' effects.

    Examples
    --------
    >>> SpaceWithout(("A",), vectors=np.zeros((4, 2)), noise=np.zeros(4)).vectors.shape
    (4, 2)
    """

    excluded: tuple[str, ...]
    vectors: np.ndarray
    noise: np.ndarray


@dataclass(frozen=True)
class LeftOut:
    """What a screen looks like without each of its folds.

    Parameters
    ----------
    folds
        Of perturbations.
    spaces
        One for every fold, in the order of the folds, then those without two folds.
    inner
        For every fold pairs of a fold and of the space without both.

    Examples
    --------
    >>> left_out = model.predictor().screen.left_out
    >>> len(left_out.folds), left_out.spaces[0].excluded == left_out.folds[0].excluded
    (10, True)
    """

    folds: tuple[Fold, ...]
    spaces: tuple[SpaceWithout, ...]
    inner: tuple[tuple[tuple[int, int], ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {
            "scored": [list(fold.scored) for fold in self.folds],
            "excluded": [list(space.excluded) for space in self.spaces],
            "vectors": [space.vectors.astype(np.float32) for space in self.spaces],
            "noise": [space.noise.astype(np.float32) for space in self.spaces],
            "inner": [[list(pair) for pair in pairs] for pairs in self.inner],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LeftOut:
        """Inverse of :meth:`to_dict`."""
        spaces = tuple(
            SpaceWithout(tuple(excluded), np.asarray(vectors, dtype=float), np.asarray(noise, dtype=float))
            for excluded, vectors, noise in zip(values["excluded"], values["vectors"], values["noise"], strict=True)
        )
        folds = tuple(Fold(tuple(scored), spaces[i].excluded) for i, scored in enumerate(values["scored"]))
        inner = tuple(tuple((int(fold), int(space)) for fold, space in pairs) for pairs in values["inner"])
        return cls(folds, spaces, inner)

    def extended(self, parts: Mapping[str, tuple[str, ...]], vectors: np.ndarray, noise: np.ndarray) -> LeftOut:
        """The same with folds of perturbations that were measured later, whose cells gene space never saw."""
        later = tuple(Fold(scored, scored) for scored in _dealt([(name,) for name in parts], min(N_FOLDS, len(parts)), seed=0))
        spaces = (
            *self.spaces[: len(self.folds)],
            *(SpaceWithout(fold.excluded, vectors, noise) for fold in later),
            *self.spaces[len(self.folds) :],
        )
        shift = len(later)
        inner = tuple(tuple((fold, space + shift) for fold, space in pairs) for pairs in self.inner)
        return LeftOut((*self.folds, *later), spaces, (*inner, *(() for _ in later)))


def spaces_needed(folds: tuple[Fold, ...], parts: Mapping[str, tuple[str, ...]]) -> tuple[list[tuple[str, ...]], tuple]:
    """Names that each space must do without, those of the folds first, and :attr:`LeftOut.inner`.

    Examples
    --------
    >>> parts = {name: (name,) for name in "ABC"}
    >>> excluded, inner = spaces_needed(perturbation_folds(parts), parts)
    >>> sorted(excluded[:3])
    [('A',), ('B',), ('C',)]
    """
    excluded = [fold.excluded for fold in folds]
    number: dict[tuple[str, ...], int] = {}
    inner = []
    for fold, neighbours in zip(folds, inner_folds(folds, parts), strict=True):
        pairs = []
        for other in neighbours:
            both = tuple(sorted({*fold.excluded, *folds[other].excluded}))
            if both not in number:
                number[both] = len(excluded)
                excluded.append(both)
            pairs.append((other, number[both]))
        inner.append(tuple(pairs))
    return excluded, tuple(inner)


def _dealt(units: list[tuple[str, ...]], n_folds: int, seed: int) -> list[tuple[str, ...]]:
    """Units, in an order that depends on names and seed alone, dealt out to folds."""
    if not units:
        return []
    order = np.random.default_rng(seed).permutation(len(units))
    units = [sorted(units)[i] for i in order]
    return [tuple(sorted(name for unit in units[k::n_folds] for name in unit)) for k in range(min(n_folds, len(units)))]


@dataclass(frozen=True)
class Screen:
    """P measured perturbations, their effects, gene space, and the library sizes and covariates of control cells.

    Parameters
    ----------
    names
        (P,) perturbations with cells, control not among them.
    control, separator
        As set up.
    var_names
        (G,).
    observed
        Effects of the P perturbations.
    vectors
        (G, R) gene space.
    library
        (control cells,) size factor, or total counts: what the decoder multiplies its rates by.
    depth_per_library
        Total counts that a library of 1 stands for; 1 unless the size factors are relative (median below 100).
    covariates
        Registry key to array (control cells, ...): batch, labels, covariates of control cells.
    n_axes
        Leading perturbations whose effects span the embedding; None means all. Those behind were measured later.
    n_cells
        (P,) cells of each, also those that enter no contrast; None in files of version 0.1.
    left_out
        What the screen looks like without each of its folds; None for one that was saved before there were any.
    halves
        Of the control cells; None where they cannot be halved or for one that was saved before they were.

    Examples
    --------
    >>> screen = model.predictor().screen
    >>> screen.control, list(screen.names) == model.perturbation_names
    ('control', True)
    """

    names: tuple[str, ...]
    control: str
    separator: str
    var_names: np.ndarray
    observed: ObservedEffects
    vectors: np.ndarray
    library: np.ndarray
    depth_per_library: float
    covariates: dict[str, np.ndarray]
    n_axes: int | None = None
    n_cells: np.ndarray | None = None
    left_out: LeftOut | None = None
    halves: ControlHalves | None = None

    @property
    def is_listable(self) -> np.ndarray:
        """(G,) genes that five cells of a perturbation of the median size can be expected to express; where known."""
        n_cells = np.maximum(self.observed.n_cells, 1)
        share = (self.observed.n_expressing / n_cells[:, None]).mean(axis=0)
        return ~(np.median(n_cells) * share < MIN_EXPRESSING)

    @cached_property
    def genes(self) -> GeneSpace:
        """Gene space with its names."""
        return GeneSpace(pd.Index(self.var_names), self.vectors)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        parts = {name: None if values[name] is None else values[name].to_dict() for name in ("left_out", "halves")}
        return {**values, "observed": self.observed.to_dict(), **parts}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Screen:
        """Inverse of :meth:`to_dict`, also of earlier versions."""
        values = upgraded(values)
        left_out, halves = values.get("left_out"), values.get("halves")
        parts = {
            "observed": ObservedEffects.from_dict(values["observed"]),
            "left_out": None if left_out is None else LeftOut.from_dict(left_out),
            "halves": None if halves is None else ControlHalves(**halves),
        }
        return cls(**{**values, **parts})

    def extended(self, later: Screen, is_known: Callable[[str], bool], parts: Callable[[str], tuple[str, ...]]) -> Screen:
        """The screen with the perturbations that a later one adds, and the later one's control cells.

        Rows and axes of this one stay. Effects of both are contrasts against the control of the screen they come from.
        """
        rows = np.array([row for row, name in enumerate(later.names) if not is_known(name)], dtype=int)
        added = {later.names[row]: parts(later.names[row]) for row in rows}
        noise = self.observed.mean_noise().astype(np.float32).astype(float)  # as it is saved
        left_out = None if self.left_out is None else self.left_out.extended(added, self.vectors, noise)
        return replace(
            later,
            names=(*self.names, *(later.names[row] for row in rows)),
            observed=self.observed.joined(later.observed.subset(rows)),
            vectors=self.vectors,
            n_axes=self.n_axes or len(self.names),
            n_cells=None if self.n_cells is None or later.n_cells is None else np.append(self.n_cells, later.n_cells[rows]),
            left_out=left_out,
            halves=None if self.halves is None or later.halves is None else self.halves.joined(later.halves.subset(rows)),
        )


def upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Plain values of a screen as this version names them.

    Until version 0.1 the covariates of control cells were called their context.

    Examples
    --------
    >>> upgraded({"context": {"batch": [0]}, "control": "ctrl"})
    {'covariates': {'batch': [0]}, 'control': 'ctrl'}
    """
    return {{"context": "covariates"}.get(name, name): value for name, value in values.items()}
