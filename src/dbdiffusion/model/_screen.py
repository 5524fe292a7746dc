"""How a registered AnnData becomes the measured screen, by which doors cells come in, and what minified data can do."""

from __future__ import annotations

import zlib
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from mudata import MuData
from scvi import REGISTRY_KEYS

from dbdiffusion._compat import ADATA_MINIFY_TYPE, minified_type
from dbdiffusion.data import CellGroups, check_genes, check_kind, contexts_of, row_chunks, undone_if_it_fails
from dbdiffusion.screen import (
    ControlHalves,
    GroupMoments,
    LeftOut,
    ObservedEffects,
    Screen,
    SpaceWithout,
    contrast_weights,
    contrast_within_batches,
    control_halves,
    depth_per_library,
    gene_vectors_without,
    grouped_moments,
    log1p_cp10k,
    perturbation_folds,
    spaces_needed,
    split_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import scipy.sparse as sp
    from anndata import AnnData
    from scvi.model import SCVI as _Base

    from dbdiffusion.data import ScreenManager
    from dbdiffusion.screen import Fold
else:
    _Base = object


MAX_GENE_SPACE_CELLS = 25_000  # perturbed ones, shared out equally to perturbations
MAX_GENE_SPACE_CONTROL = 5_000
_COVARIATE_KEYS = (
    REGISTRY_KEYS.BATCH_KEY,
    REGISTRY_KEYS.LABELS_KEY,
    REGISTRY_KEYS.CAT_COVS_KEY,
    REGISTRY_KEYS.CONT_COVS_KEY,
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

    Examples
    --------
    >>> names, observed = ScreenReader(model.adata_manager).effects()
    >>> observed.effect.shape == (len(names), adata.n_vars)
    True
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

    def effects(
        self, context: str | None = None, without: frozenset[str] | set[str] = frozenset()
    ) -> tuple[tuple[str, ...], ObservedEffects]:
        """Names and observed effects of the perturbations with cells, in all contexts or one; the counts are read once.

        Cells of those ``without`` which it is to do enter nothing, not even variances that perturbations share.
        """
        kept = np.array([i for i, name in enumerate(self.categories) if name not in without])
        control = int(np.flatnonzero(kept == self.cells.control_code)[0])
        strata = self.cells.strata_of(context)
        groups = kept[:, None] * self.cells.n_strata + strata
        observed = contrast_within_batches(self._moments.subset(groups.ravel()), len(strata), control)
        present = np.isin(kept, np.unique(self.codes[self._in_context(context)]))
        rows = np.array([i for i in np.flatnonzero(present) if i != control], dtype=int)
        as_saved = ObservedEffects.from_dict(observed.subset(rows).to_dict())  # so that a loaded model answers the same
        return tuple(self.categories[kept[i]] for i in rows), as_saved

    @cached_property
    def _moments(self) -> GroupMoments:
        n_groups = len(self.categories) * self.cells.n_strata
        return grouped_moments(self._chunks(self.cells.groups), n_groups, self.counts.shape[1])

    def _in_context(self, context: str | None) -> np.ndarray:
        if context is None:
            return self.cells.takes_part
        return self.cells.takes_part & (self.cells.context == self.contexts.index(context))

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
        pool = self._control_rows(context)
        return Screen(
            names=names,
            control=self.control,
            separator=self.cells.separator,
            var_names=self.var_names,
            observed=observed,
            vectors=vectors,
            library=self.library[pool],
            depth_per_library=self.depth_per_library,
            covariates={key: self._column(key)[pool] for key in _COVARIATE_KEYS if key in self._manager.data_registry},
            n_cells=self.cells.table(context)["n_cells"].to_numpy(),
            left_out=left_out,
            halves=self._halves(names, context),
        )

    def perturbation_sizes(self, context: str | None = None) -> np.ndarray:
        """Cells (P,) of every perturbation that enter its effect, control not among them."""
        return self.cells.table(context)["n_cells_used"].to_numpy()

    def control_cells(self, context: str | None = None) -> tuple[sp.csr_matrix, np.ndarray]:
        """Log1p CP10K (control cells, G) of control cells and the codes of what they are contrasted inside."""
        rows = self._control_rows(context)
        return log1p_cp10k(self.counts[rows], self.depth[rows]), self.cells.strata[rows]

    def _control_rows(self, context: str | None) -> np.ndarray:
        return np.flatnonzero((self.codes == self.cells.control_code) & self._in_context(context))

    def _halves(self, names: Sequence[str], context: str | None) -> ControlHalves | None:
        strata = self.cells.strata_of(context)
        values, stratum = self.control_cells(context)
        n_cells = self._moments.n_cells.reshape(len(self.categories), -1)[:, strata]
        rows = [self.categories.index(name) for name in names]
        weight = contrast_weights(n_cells[rows], n_cells[self.cells.control_code])
        return control_halves(values, np.searchsorted(strata, stratum), weight)

    def gene_vectors(self, *excluded: Sequence[str]) -> list[np.ndarray]:
        """Gene spaces (G, R), inside batches and contexts, without the cells of some perturbations each."""
        rows = self._rows_for_gene_space()
        values = log1p_cp10k(self.counts[rows], self.depth[rows])
        groups = [[self.categories.index(name) for name in names] for names in excluded]
        spaces = gene_vectors_without(values, self.cells.strata[rows], self.codes[rows], groups)
        return [vectors.astype(np.float32).astype(float) for vectors in spaces]

    def parts(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Parts of perturbations by name."""
        genes = set(self.var_names)
        return {name: split_name(name, self.cells.separator, genes) for name in names}

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
            rows = np.flatnonzero((self.codes == code) & self.cells.takes_part)
            if len(rows) > most:
                rows = np.random.default_rng(zlib.crc32(name.encode())).choice(rows, most, replace=False)
            chosen.append(rows)
        return np.sort(np.concatenate(chosen))

    def _mean_noise(self, without: Sequence[str]) -> np.ndarray:
        """Mean sampling variance (G,) of the effects of the other perturbations in all contexts, as if these had no cells."""
        gone = set(without)
        total, n = np.zeros(self.counts.shape[1]), 0
        contexts: list[str | None] = [*self.cells.contexts] or [None]
        for context in contexts:
            observed = self.effects(context, without=gone)[1]
            known = int(observed.has_variance.sum())
            total += known * observed.mean_noise()
            n += known
        return (total / max(n, 1)).astype(np.float32).astype(float)

    def _library(self) -> tuple[np.ndarray, float]:
        totals = np.asarray(self._manager.totals)
        if REGISTRY_KEYS.SIZE_FACTOR_KEY not in self._manager.data_registry:
            return totals, 1.0
        factors = self._manager.get_from_registry(REGISTRY_KEYS.SIZE_FACTOR_KEY).ravel().astype(float)
        return factors, depth_per_library(factors, totals)

    def _chunks(self, groups: np.ndarray) -> Iterator[tuple[sp.csr_matrix, np.ndarray]]:
        start = 0
        for rows in row_chunks(self.counts):
            stop = start + rows.shape[0]
            yield log1p_cp10k(rows, self.depth[start:stop]), groups[start:stop]
            start = stop

    def _column(self, key: str) -> np.ndarray:
        return np.asarray(self._manager.get_from_registry(key)).reshape(len(self.codes), -1)


# Minified data: latents instead of counts. Stage two and generation live on it, what needs counts refuses.


class MinifiedMixin(_Base):
    """``minify_adata``."""

    screen_: dict | None

    def minify_adata(
        self,
        minified_data_type: str = ADATA_MINIFY_TYPE.LATENT_POSTERIOR,
        use_latent_qzm_key: str = "X_latent_qzm",
        use_latent_qzv_key: str = "X_latent_qzv",
    ) -> None:
        """Give the model a minified copy of its AnnData, see scvi-tools; the observed effects are read from the counts first.

        On it :meth:`train_diffusion`, :meth:`generate`, :meth:`predict_effects` and
        :meth:`differential_expression_ppi` work. :meth:`train_vae`, :meth:`cross_fit` and :meth:`observed_effects` need counts.

        Parameters
        ----------
        minified_data_type
            ``"latent_posterior_parameters"``, or ``"latent_posterior_parameters_with_counts"``, which keeps the counts.
        use_latent_qzm_key, use_latent_qzv_key
            Keys of ``obsm`` with the answer of ``model.get_latent_representation(return_dist=True)``.

        Raises
        ------
        NotImplementedError
            For a MuData.
        KeyError
            If ``obsm`` lacks a key.

        Examples
        --------
        >>> import copy
        >>> copied = copy.deepcopy(model)
        >>> mean, variance = copied.get_latent_representation(return_dist=True)
        >>> copied.adata.obsm["X_latent_qzm"], copied.adata.obsm["X_latent_qzv"] = mean, variance
        >>> copied.minify_adata()
        >>> copied.generate(unseen[0], n_cells=3).n_obs
        3
        """
        check_has_cells(self.adata)
        if isinstance(self.adata, MuData):
            msg = "A MuData cannot be minified. Set up the AnnData of its RNA (`setup_anndata`) and minify that."
            raise NotImplementedError(msg)
        absent = [key for key in (use_latent_qzm_key, use_latent_qzv_key) if key not in self.adata.obsm]
        if absent:
            msg = (
                f"{absent} must be in adata.obsm, which has {list(self.adata.obsm)}: first "
                f"`adata.obsm[{use_latent_qzm_key!r}], adata.obsm[{use_latent_qzv_key!r}] = "
                "model.get_latent_representation(return_dist=True)`."
            )
            raise KeyError(msg)
        options: dict[str, Any] = {
            "use_latent_qzm_key": use_latent_qzm_key,
            "use_latent_qzv_key": use_latent_qzv_key,
        }
        screen, contexts = self._read_screens()
        self.screen_ = screen.to_dict()
        self.context_screens_ = {name: one.to_dict() for name, one in contexts.items()} or None
        super().minify_adata(minified_data_type, **options)


# Where cells come to a model: its own, others it is asked about, and those it was given back after loading.


class DoorMixin(_Base):
    """Checks of cells, by the manager that registered them."""

    def get_anndata_manager(self, adata: AnnData | MuData, required: bool = False) -> ScreenManager | None:
        """As in scvi-tools, but the model's own cells are its own, whatever set them up since.

        Examples
        --------
        >>> model.get_anndata_manager(adata) is model.adata_manager
        True
        """
        own = self.adata_manager
        if adata is not None and own is not None and own.adata is adata:
            return own
        return super().get_anndata_manager(adata, required)

    def _validate_anndata(self, adata: AnnData | MuData | None = None, copy_if_view: bool = True) -> AnnData | MuData:
        adata = self.adata if adata is None else adata
        check_has_cells(adata)
        check_kind(adata, is_mudata="modalities" in self.registry_["setup_args"])
        if not adata.n_obs:
            msg = "There must be at least one cell, got none. Was everything filtered out?"
            raise ValueError(msg)
        with undone_if_it_fails(adata):
            return super()._validate_anndata(adata, copy_if_view)

    def _manager_of(self, adata: AnnData | MuData | None, contexts: Sequence[str] = ()) -> ScreenManager:
        """Of the model's own cells, or of others that were set up as the model's were and have some contexts."""
        if adata is None:
            check_has_cells(self.adata)
            return self.adata_manager
        check_kind(adata, is_mudata=isinstance(adata, MuData))
        manager = self._get_most_recent_anndata_manager(adata, required=True)
        check_genes(genes_of(manager.registry), genes_of(self.registry_))
        absent = sorted(set(contexts).difference(contexts_of(manager.registry)))
        if absent:
            msg = f"The cells must be set up with a `context_key` and the model's contexts, but {absent[:3]!r} are lacking."
            raise ValueError(msg)
        return manager

    def _fit_split(self) -> None:
        """Make the split of cells one of the cells that are there, with the shares it had."""
        n = self.adata.n_obs
        split = (self.train_indices, self.validation_indices, self.test_indices)
        if split[0] is None:  # a checkpoint of stage one knows no split
            self.train_indices = np.arange(n)
            self.validation_indices = self.test_indices = np.empty(0, dtype=int)
            return
        indices = [np.empty(0, dtype=int) if part is None else np.asarray(part, dtype=int) for part in split]
        n_before = len(np.concatenate(indices))
        of_all = np.array_equal(np.sort(np.concatenate(indices)), np.arange(n_before))
        if max(part.max(initial=-1) for part in indices) < n and not (of_all and n_before < n):
            return
        order = np.random.default_rng(0).permutation(n)
        ends = np.cumsum([round(n * len(part) / n_before) for part in indices[1:]])
        self.validation_indices, self.test_indices, self.train_indices = np.split(order, ends)


def used_cells(manager: Any, indices: np.ndarray) -> np.ndarray:
    """Those of some cells that have counts; all of them where the counts are gone, or the depth is known otherwise."""
    return indices if manager.takes_part is None else indices[manager.takes_part[indices]]
