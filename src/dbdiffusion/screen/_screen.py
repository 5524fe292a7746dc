"""The measured screen: all that generation and inference need of the training cells, small enough to be saved."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion.screen._control import ControlHalves
from dbdiffusion.screen._effects import MIN_EXPRESSING, ObservedEffects
from dbdiffusion.screen._folds import LeftOut
from dbdiffusion.screen._gene_space import GeneSpace

if TYPE_CHECKING:
    from collections.abc import Callable


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
