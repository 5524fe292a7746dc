"""The measured screen: all that generation and inference need of the training cells, small enough to be saved."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from dbdiffusion._compat import ADATA_MINIFY_TYPE, minified_type
from dbdiffusion._keys import REGISTRY
from dbdiffusion.data import PerturbationField, row_chunks
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
        )


def contexts_of(registry: dict[str, Any]) -> list[str]:
    """Names of the registered contexts, none without a ``context_key``."""
    field = registry.get("field_registries", {}).get(REGISTRY.CONTEXT, {})
    return [str(name) for name in field.get("state_registry", {}).get("categorical_mapping", ())]


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
        state = manager.get_state_registry(REGISTRY.PERTURBATION)
        self.categories = [str(name) for name in state[PerturbationField.CATEGORICAL_MAPPING_KEY]]
        self.control = state[PerturbationField.CONTROL]
        self.separator = state[PerturbationField.SEPARATOR]
        self.codes = manager.get_from_registry(REGISTRY.PERTURBATION).ravel().astype(int)
        batch = manager.get_from_registry(REGISTRY_KEYS.BATCH_KEY).ravel().astype(int)
        self.contexts = contexts_of(manager.registry)
        self.context = np.zeros_like(batch)
        if self.contexts:
            self.context = manager.get_from_registry(REGISTRY.CONTEXT).ravel().astype(int)
        self.n_batches = int(batch.max()) + 1
        self.batch = self.context * self.n_batches + batch  # what effects are contrasted inside
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
        control = self.categories.index(self.control)
        chosen = self._in_context(context)
        n_strata = max(1, len(self.contexts)) * self.n_batches
        strata = np.arange(n_strata)
        if context is not None:
            strata = self.contexts.index(context) * self.n_batches + np.arange(self.n_batches)
        groups = np.arange(len(self.categories))[:, None] * n_strata + strata
        observed = contrast_within_batches(self._moments.subset(groups.ravel()), len(strata), control)
        rows = np.array([i for i in np.unique(self.codes[chosen]) if i != control], dtype=int)
        self._check_batches(observed, rows)
        return tuple(self.categories[i] for i in rows), observed.subset(rows)

    @cached_property
    def _moments(self) -> GroupMoments:
        n_strata = max(1, len(self.contexts)) * self.n_batches
        groups = self.codes * n_strata + self.batch
        return grouped_moments(self._chunks(groups), len(self.categories) * n_strata, self.counts.shape[1])

    def _in_context(self, context: str | None) -> np.ndarray:
        if context is None:
            return np.ones(len(self.codes), dtype=bool)
        return self.context == self.contexts.index(context)

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
        pool = np.flatnonzero(is_control & (self.library > 0))
        if len(pool) == 0:
            msg = f"No cell of control {self.control!r} has counts (or a size factor above 0); effects need such cells."
            raise ValueError(msg)
        return Screen(
            names=names,
            control=self.control,
            separator=self.separator,
            var_names=self.var_names,
            observed=observed,
            vectors=self.gene_vectors() if vectors is None else vectors,
            library=self.library[pool],
            depth_per_library=self.depth_per_library,
            context={key: self._column(key)[pool] for key in _CONTEXT_KEYS if key in self._manager.data_registry},
        )

    def perturbation_sizes(self, context: str | None = None) -> np.ndarray:
        """Cells (P,) of every perturbation that has any, control not among them."""
        codes = self.codes[self._in_context(context)]
        sizes = np.delete(np.bincount(codes, minlength=len(self.categories)), self.categories.index(self.control))
        return sizes[sizes > 0]

    def control_cells(self, context: str | None = None) -> tuple[sp.csr_matrix, np.ndarray]:
        """Log1p CP10K (control cells, G) of control cells and the codes of what they are contrasted inside."""
        rows = np.flatnonzero((self.codes == self.categories.index(self.control)) & self._in_context(context))
        return log1p_cp10k(self.counts[rows], self.depth[rows]), self.batch[rows]

    def gene_vectors(self, without: tuple[str, ...] = ()) -> np.ndarray:
        """Gene space (G, R), inside batches and contexts, of 20,000 cells at most, none of them of some perturbations."""
        excluded = [self.categories.index(name) for name in without]
        rows = np.flatnonzero(~np.isin(self.codes, excluded))
        if len(rows) > MAX_GENE_SPACE_CELLS:
            rows = np.sort(np.random.default_rng(0).choice(rows, MAX_GENE_SPACE_CELLS, replace=False))
        vectors = gene_vectors(log1p_cp10k(self.counts[rows], self.depth[rows]), self.batch[rows])
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

    def _check_batches(self, observed: ObservedEffects, rows: np.ndarray) -> None:
        lost = [self.categories[i] for i in rows if observed.n_cells[i] == 0]
        if lost:
            msg = (
                f"Effects are contrasts inside batches, but {lost[:3]!r} share no batch with control {self.control!r}. "
                "Drop those cells, or set up without `batch_key`."
            )
            raise ValueError(msg)
