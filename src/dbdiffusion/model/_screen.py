"""The measured screen: all that generation and inference need of the training cells, small enough to be saved."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from dbdiffusion._compat import ADATA_MINIFY_TYPE, minified_type
from dbdiffusion.data import CellGroups, row_chunks
from dbdiffusion.embedding import (
    GeneSpace,
    GroupMoments,
    ObservedEffects,
    contrast_within_batches,
    gene_vectors,
    grouped_moments,
    log1p_cp10k,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import scipy.sparse as sp
    from anndata import AnnData
    from mudata import MuData

    from dbdiffusion.data import ScreenManager

MAX_GENE_SPACE_CELLS = 20_000
RELATIVE_SIZE_FACTOR = 100.0  # size factors with a median below it are relative, not total counts
_CONTEXT_KEYS = (
    REGISTRY_KEYS.BATCH_KEY,
    REGISTRY_KEYS.LABELS_KEY,
    REGISTRY_KEYS.CAT_COVS_KEY,
    REGISTRY_KEYS.CONT_COVS_KEY,
)


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
    context
        Registry key to array (control cells, ...): batch, labels, covariates of control cells.
    n_axes
        Leading perturbations whose effects span the embedding; None means all. Those behind were measured later.
    n_cells
        (P,) cells of each, also those that enter no contrast; None in files of version 0.1.
    """

    names: tuple[str, ...]
    control: str
    separator: str
    var_names: np.ndarray
    observed: ObservedEffects
    vectors: np.ndarray
    library: np.ndarray
    depth_per_library: float
    context: dict[str, np.ndarray]
    n_axes: int | None = None
    n_cells: np.ndarray | None = None

    @cached_property
    def genes(self) -> GeneSpace:
        """Gene space with its names."""
        return GeneSpace(pd.Index(self.var_names), self.vectors)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "observed": dict(self.observed.__dict__)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Screen:
        """Inverse of :meth:`to_dict`."""
        return cls(**{**values, "observed": ObservedEffects(**values["observed"])})

    def extended(self, later: Screen, is_known: Callable[[str], bool]) -> Screen:
        """The screen with the perturbations that a later one adds, and the later one's control cells.

        Rows and axes of this one stay. Effects of both are contrasts against the control of the screen they come from.
        """
        rows = np.array([row for row, name in enumerate(later.names) if not is_known(name)], dtype=int)
        return replace(
            later,
            names=(*self.names, *(later.names[row] for row in rows)),
            observed=self.observed.joined(later.observed.subset(rows)),
            vectors=self.vectors,
            n_axes=self.n_axes or len(self.names),
            n_cells=None if self.n_cells is None or later.n_cells is None else np.append(self.n_cells, later.n_cells[rows]),
        )


def genes_of(registry: dict[str, Any]) -> np.ndarray:
    """Registered genes (G,), in order."""
    return np.asarray(registry["field_registries"][REGISTRY_KEYS.X_KEY]["state_registry"]["column_names"], dtype=str)


def check_has_counts(adata: AnnData | MuData | None) -> None:
    """Raise unless the counts are there.

    Raises
    ------
    ValueError
        If there is no AnnData, or a minified one without counts.
    """
    check_has_cells(adata)
    if minified_type(adata) == ADATA_MINIFY_TYPE.LATENT_POSTERIOR:
        msg = (
            "This needs counts, and those of the minified AnnData are gone. Load the model with the whole AnnData "
            "(`DBDiffusion.load(folder, adata)`), or minify with `'latent_posterior_parameters_with_counts'`, which keeps them."
        )
        raise ValueError(msg)


def check_has_cells(adata: AnnData | MuData | None) -> None:
    """Raise unless the model has data.

    Raises
    ------
    ValueError
        Otherwise.
    """
    if adata is None:
        msg = "This needs cells, and the model was loaded without. Load it with them: `DBDiffusion.load(folder, adata)`."
        raise ValueError(msg)


class ScreenReader:
    """Reads a registered AnnData once, chunk by chunk.

    Parameters
    ----------
    manager
        Of the registered AnnData, or None.

    Raises
    ------
    ValueError
        If there is none, or its counts are gone.
    """

    def __init__(self, manager: Any) -> None:
        check_has_counts(None if manager is None else manager.adata)
        manager.validate(whole=True)
        self._manager: ScreenManager = manager
        self.cells = CellGroups(manager)
        self.cells.check()
        self.categories, self.codes, self.contexts = self.cells.categories, self.cells.codes, self.cells.contexts
        self.control = self.cells.control
        self.counts = manager.get_from_registry(REGISTRY_KEYS.X_KEY)
        self.library, self.depth_per_library = self._library()

    @property
    def var_names(self) -> np.ndarray:
        """Genes (G,)."""
        return genes_of(self._manager.registry)

    @property
    def depth(self) -> np.ndarray:
        """Total counts (N,) that CP10K divides by."""
        return self.library * self.depth_per_library

    def effects(self, context: str | None = None) -> tuple[tuple[str, ...], ObservedEffects]:
        """Names and observed effects of the perturbations with cells, in all contexts or one; the counts are read once."""
        control = self.cells.control_code
        strata = self.cells.strata_of(context)
        groups = np.arange(len(self.categories))[:, None] * self.cells.n_strata + strata
        observed = contrast_within_batches(self._moments.subset(groups.ravel()), len(strata), control)
        rows = np.array([i for i in np.unique(self.codes[self._in_context(context)]) if i != control], dtype=int)
        return tuple(self.categories[i] for i in rows), observed.subset(rows)

    @cached_property
    def _moments(self) -> GroupMoments:
        n_groups = len(self.categories) * self.cells.n_strata
        return grouped_moments(self._chunks(self.cells.groups), n_groups, self.counts.shape[1])

    def _in_context(self, context: str | None) -> np.ndarray:
        if context is None:
            return self.cells.takes_part
        return self.cells.takes_part & (self.cells.context == self.contexts.index(context))

    def read(self, context: str | None = None, vectors: np.ndarray | None = None) -> Screen:
        """Effects, gene space, and library sizes and covariates of control, of all contexts or one.

        Parameters
        ----------
        context
            Its name.
        vectors
            Gene space, if it is known.
        """
        names, observed = self.effects(context)
        is_control = (self.codes == self.categories.index(self.control)) & self._in_context(context)
        pool = np.flatnonzero(is_control)
        return Screen(
            names=names,
            control=self.control,
            separator=self.cells.separator,
            var_names=self.var_names,
            observed=observed,
            vectors=self.gene_vectors() if vectors is None else vectors,
            library=self.library[pool],
            depth_per_library=self.depth_per_library,
            context={key: self._column(key)[pool] for key in _CONTEXT_KEYS if key in self._manager.data_registry},
            n_cells=self.cells.table(context)["n_cells"].to_numpy(),
        )

    def perturbation_sizes(self, context: str | None = None) -> np.ndarray:
        """Cells (P,) of every perturbation that enter its effect, control not among them."""
        return self.cells.table(context)["n_cells_used"].to_numpy()

    def control_cells(self, context: str | None = None) -> tuple[sp.csr_matrix, np.ndarray]:
        """Log1p CP10K (control cells, G) of control cells and the codes of what they are contrasted inside."""
        rows = np.flatnonzero((self.codes == self.categories.index(self.control)) & self._in_context(context))
        return log1p_cp10k(self.counts[rows], self.depth[rows]), self.cells.strata[rows]

    def gene_vectors(self, without: tuple[str, ...] = ()) -> np.ndarray:
        """Gene space (G, R), inside batches and contexts, of 20,000 cells at most, none of them of some perturbations."""
        excluded = [self.categories.index(name) for name in without]
        rows = np.flatnonzero(~np.isin(self.codes, excluded) & self.cells.takes_part)
        if len(rows) > MAX_GENE_SPACE_CELLS:
            rows = np.sort(np.random.default_rng(0).choice(rows, MAX_GENE_SPACE_CELLS, replace=False))
        vectors = gene_vectors(log1p_cp10k(self.counts[rows], self.depth[rows]), self.cells.strata[rows])
        return vectors.astype(np.float32).astype(float)

    def _library(self) -> tuple[np.ndarray, float]:
        totals = np.asarray(self._manager.totals)
        if REGISTRY_KEYS.SIZE_FACTOR_KEY not in self._manager.data_registry:
            return totals, 1.0
        factors = self._manager.get_from_registry(REGISTRY_KEYS.SIZE_FACTOR_KEY).ravel().astype(float)
        is_relative = np.median(factors) < RELATIVE_SIZE_FACTOR
        return factors, float(totals.mean() / factors.mean()) if is_relative else 1.0

    def _chunks(self, groups: np.ndarray) -> Iterator[tuple[sp.csr_matrix, np.ndarray]]:
        start = 0
        for rows in row_chunks(self.counts):
            stop = start + rows.shape[0]
            yield log1p_cp10k(rows, self.depth[start:stop]), groups[start:stop]
            start = stop

    def _column(self, key: str) -> np.ndarray:
        return np.asarray(self._manager.get_from_registry(key)).reshape(len(self.codes), -1)
