"""Reads a registered AnnData into the measured screen."""

from __future__ import annotations

import zlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi import REGISTRY_KEYS

from dbdiffusion._compat import ADATA_MINIFY_TYPE, minified_type
from dbdiffusion._keys import REGISTRY
from dbdiffusion.data import PerturbationField, row_chunks
from dbdiffusion.embedding import parts_of
from dbdiffusion.screen import (
    GroupMoments,
    LeftOut,
    ObservedEffects,
    Screen,
    SpaceWithout,
    contrast_within_batches,
    gene_vectors_without,
    grouped_moments,
    log1p_cp10k,
    perturbation_folds,
    spaces_needed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import scipy.sparse as sp
    from anndata import AnnData
    from mudata import MuData
    from scvi.data import AnnDataManager

    from dbdiffusion.screen import Fold

MAX_GENE_SPACE_CELLS = 25_000  # perturbed ones, shared out equally to perturbations
MAX_GENE_SPACE_CONTROL = 5_000
RELATIVE_SIZE_FACTOR = 100.0  # size factors with a median below it are relative, not total counts
_CONTEXT_KEYS = (
    REGISTRY_KEYS.BATCH_KEY,
    REGISTRY_KEYS.LABELS_KEY,
    REGISTRY_KEYS.CAT_COVS_KEY,
    REGISTRY_KEYS.CONT_COVS_KEY,
)


def contexts_of(registry: dict[str, Any]) -> list[str]:
    """Names of the registered contexts, none without a ``context_key``."""
    field = registry.get("field_registries", {}).get(REGISTRY.CONTEXT, {})
    return [str(name) for name in field.get("state_registry", {}).get("categorical_mapping", ())]


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
        self._manager: AnnDataManager = manager
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
        return np.asarray(self._manager.get_state_registry(REGISTRY_KEYS.X_KEY)["column_names"], dtype=str)

    @property
    def depth(self) -> np.ndarray:
        """Total counts (N,) that CP10K divides by."""
        return self.library * self.depth_per_library

    def effects(
        self, context: str | None = None, without: frozenset[str] | set[str] = frozenset()
    ) -> tuple[tuple[str, ...], ObservedEffects]:
        """Names and observed effects of the perturbations with cells, in all contexts or one; the counts are read once.

        Cells of those ``without`` which it is to do enter nothing, not even variances that perturbations share.
        """
        kept = np.array([i for i, name in enumerate(self.categories) if name not in without])
        control = int(np.flatnonzero(kept == self.categories.index(self.control))[0])
        chosen = self._in_context(context)
        n_strata = max(1, len(self.contexts)) * self.n_batches
        strata = np.arange(n_strata)
        if context is not None:
            strata = self.contexts.index(context) * self.n_batches + np.arange(self.n_batches)
        groups = kept[:, None] * n_strata + strata
        observed = contrast_within_batches(self._moments.subset(groups.ravel()), len(strata), control)
        present = np.isin(kept, np.unique(self.codes[chosen]))
        rows = np.array([i for i in np.flatnonzero(present) if i != control], dtype=int)
        names = tuple(self.categories[kept[i]] for i in rows)
        self._check_batches(names, observed.n_cells[rows])
        return names, observed.subset(rows)

    @cached_property
    def _moments(self) -> GroupMoments:
        n_strata = max(1, len(self.contexts)) * self.n_batches
        groups = self.codes * n_strata + self.batch
        return grouped_moments(self._chunks(groups), len(self.categories) * n_strata, self.counts.shape[1])

    def _in_context(self, context: str | None) -> np.ndarray:
        if context is None:
            return np.ones(len(self.codes), dtype=bool)
        return self.context == self.contexts.index(context)

    def read(
        self,
        context: str | None = None,
        vectors: np.ndarray | None = None,
    ) -> Screen:
        """Effects, gene space, and library sizes and covariates of control, of all contexts or one.

        Parameters
        ----------
        context
            Its name.
        vectors
            Gene space, if it is known; else folds of perturbations are left out too.
        """
        names, observed = self.effects(context)
        left_out = None
        if vectors is None:
            vectors, left_out = self.left_out(perturbation_folds(self.parts(names)), names)
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
            vectors=vectors,
            library=self.library[pool],
            depth_per_library=self.depth_per_library,
            context={key: self._column(key)[pool] for key in _CONTEXT_KEYS if key in self._manager.data_registry},
            left_out=left_out,
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

    def gene_vectors(self, *excluded: Sequence[str]) -> list[np.ndarray]:
        """Gene spaces (G, R), inside batches and contexts, without the cells of some perturbations each."""
        rows = self._rows_for_gene_space()
        values = log1p_cp10k(self.counts[rows], self.depth[rows])
        groups = [[self.categories.index(name) for name in names] for names in excluded]
        spaces = gene_vectors_without(values, self.batch[rows], self.codes[rows], groups)
        return [vectors.astype(np.float32).astype(float) for vectors in spaces]

    def parts(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Parts of perturbations by name."""
        genes = set(self.var_names)
        return {name: parts_of(name, self.separator, genes) for name in names}

    def left_out(self, folds: tuple[Fold, ...], names: Sequence[str]) -> tuple[np.ndarray, LeftOut]:
        """Gene space of all cells, and those without the cells of each fold and of each pair of folds that is needed."""
        excluded, inner = spaces_needed(folds, self.parts(names))
        whole, *vectors = self.gene_vectors((), *excluded)
        spaces = [SpaceWithout(names, space, self._mean_noise(names)) for names, space in zip(excluded, vectors, strict=True)]
        return whole, LeftOut(folds, tuple(spaces), inner)

    def _rows_for_gene_space(self) -> np.ndarray:
        """Cells of every perturbation up to its share, drawn by its name alone, so that no other perturbation decides which."""
        names = [name for name in self.categories if name != self.control]
        share = MAX_GENE_SPACE_CELLS // max(len(names), 1)
        chosen = []
        for code, name in enumerate(self.categories):
            most = MAX_GENE_SPACE_CONTROL if name == self.control else max(share, 1)
            rows = np.flatnonzero((self.codes == code) & (self.library > 0))
            if len(rows) > most:
                rows = np.random.default_rng(zlib.crc32(name.encode())).choice(rows, most, replace=False)
            chosen.append(rows)
        return np.sort(np.concatenate(chosen))

    def _mean_noise(self, without: Sequence[str]) -> np.ndarray:
        """Mean sampling variance (G,) of the effects of the other perturbations in all contexts, as if these had no cells."""
        gone = set(without)
        total, n = np.zeros(self.counts.shape[1]), 0
        contexts: list[str | None] = [*self.contexts] or [None]
        for context in contexts:
            observed = self.effects(context, without=gone)[1]
            known = int(observed.has_variance.sum())
            total += known * observed.mean_noise()
            n += known
        return (total / max(n, 1)).astype(np.float32).astype(float)

    def _library(self) -> tuple[np.ndarray, float]:
        totals = np.concatenate([np.asarray(rows.sum(axis=1)).ravel() for rows in row_chunks(self.counts)]).astype(float)
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

    def _check_batches(self, names: tuple[str, ...], n_cells: np.ndarray) -> None:
        lost = [name for name, n in zip(names, n_cells, strict=True) if n == 0]
        if lost:
            msg = (
                f"Effects are contrasts inside batches, but {lost[:3]!r} share no batch with control {self.control!r}. "
                "Drop those cells, or set up without `batch_key`."
            )
            raise ValueError(msg)
