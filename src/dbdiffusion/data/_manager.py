"""The manager of a registered screen: it checks the cells at every use, and keeps to its own set-up."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from mudata import MuData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager

from dbdiffusion._compat import ADATA_MINIFY_TYPE, MANAGER_UUID, minified_type
from dbdiffusion._keys import REGISTRY
from dbdiffusion._words import say
from dbdiffusion.data._fields import PerturbationField
from dbdiffusion.data._mudata import check_modalities
from dbdiffusion.screen import counts_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from scvi.data.fields import BaseAnnDataField


# Checks of a user's AnnData, each failure worded: what must hold, what was found, what to do.


def row_chunks(matrix: object, chunk: int = 8192) -> Iterator[np.ndarray | sp.spmatrix]:
    """Consecutive rows of a matrix in memory or on disk.

    Examples
    --------
    >>> [len(rows) for rows in row_chunks(np.zeros((5, 2)), chunk=2)]
    [2, 2, 1]
    """
    for start in range(0, matrix.shape[0], chunk):  # type: ignore[attr-defined]
        yield matrix[start : start + chunk]  # type: ignore[index]


def check_counts(adata: AnnData, layer: str | None, rows: Sequence[slice] | None = None) -> np.ndarray:
    """Raise unless the counts are finite, non-negative integers and the genes' names unique.

    Parameters
    ----------
    adata
        Cells by genes.
    layer
        Layer with the counts, if they are not in X.
    rows
        Blocks of cells to look at; None means all.

    Returns
    -------
    ndarray
        Total counts of those cells, summed in float64 whatever the type of the counts.

    Raises
    ------
    ValueError
        On NaN, negative or fractional values, a ``csr_array``, fewer than two genes, or duplicate ``var_names``.
    KeyError
        If the layer does not exist.

    Examples
    --------
    >>> import anndata
    >>> check_counts(anndata.AnnData(np.array([[1.0, 2.0], [0.0, 4.0]])), None).tolist()
    [3.0, 4.0]
    >>> check_counts(anndata.AnnData(np.array([[1.0], [2.0]])), None)
    Traceback (most recent call last):
    ValueError: At least 2 genes are needed, got 1.
    """
    if not adata.var_names.is_unique:
        repeated = list(adata.var_names[adata.var_names.duplicated()][:3])
        msg = f"`var_names` must be unique, got {repeated!r} more than once. Run `adata.var_names_make_unique()` first."
        raise ValueError(msg)
    if adata.n_vars < 2:
        msg = f"At least 2 genes are needed, got {adata.n_vars}."
        raise ValueError(msg)
    if layer is not None and layer not in adata.layers:
        msg = f"`layer` {layer!r} is not in adata.layers, which has {[name for name in adata.layers if name is not None]}."
        raise KeyError(msg)
    counts = adata.X if layer is None else adata.layers[layer]
    if counts is None:
        msg = "adata.X is None; name the layer that holds the counts: `setup_anndata(adata, layer=...)`."
        raise ValueError(msg)
    if isinstance(counts, sp.sparray):
        msg = (
            f"Counts are a {type(counts).__name__}, which scvi-tools cannot read. Convert once: "
            "`adata.X = scipy.sparse.csr_matrix(adata.X)`."
        )
        raise ValueError(msg)
    if sp.issparse(counts) and counts.format == "csc":  # rows of it are slow to cut out
        counts = counts.tocsr()
    blocks = row_chunks(counts) if rows is None else (counts[block] for block in rows)
    totals = [_checked_totals(block) for block in blocks]
    return np.concatenate(totals) if totals else np.empty(0)


def _checked_totals(rows: np.ndarray | sp.spmatrix) -> np.ndarray:
    if not sp.issparse(rows):
        rows = np.asarray(rows)
    _check_values(np.asarray(rows.data) if sp.issparse(rows) else rows)
    return np.asarray(rows.sum(axis=1, dtype=np.float64), dtype=np.float64).ravel()


def _check_values(values: np.ndarray) -> None:
    problem = counts_fault(values)
    if problem is None:
        return
    msg = (
        f"Counts must be finite, non-negative integers (raw UMIs), but some are {problem}. Normalised values cannot be used; "
        "name the layer with raw counts, `setup_anndata(adata, layer=...)`, and leave it as it is as long as a model needs it."
    )
    raise ValueError(msg)


# The check at every door that cells come in by: what they are, which genes they have, and that their counts are counts.


OWN = "_scvi"  # how the entries begin that a registration writes
ALIGN = "Sort them, `adata = adata[:, model.get_var_names()].copy()`, or set the cells up for a model of their own."


def check_kind(data: object, *, is_mudata: bool | None = False) -> None:
    """Raise unless the data are an AnnData, or a MuData where that was registered.

    Parameters
    ----------
    data
        What a user gave.
    is_mudata
        Whether a MuData is wanted; None means that either will do.

    Raises
    ------
    TypeError
        Otherwise; the message says which way in is theirs.

    Examples
    --------
    >>> check_kind("screen.h5ad")
    Traceback (most recent call last):
    TypeError: The cells must be an AnnData, got str. Read files first: `anndata.read_h5ad(file)`.
    """
    if isinstance(data, AnnData | MuData) and is_mudata in (None, isinstance(data, MuData)):
        return
    if is_mudata:
        wanted, remedy = "a MuData, as it was set up", "For an AnnData there is `setup_anndata`."
    elif isinstance(data, MuData):
        wanted, remedy = "an AnnData", "For a MuData there is `setup_mudata`; or give its RNA, `mdata['rna']`."
    else:
        wanted, remedy = "an AnnData", "Read files first: `anndata.read_h5ad(file)`."
    msg = f"The cells must be {wanted}, got {type(data).__name__}. {remedy}"
    raise TypeError(msg)


def check_no_view(adata: AnnData) -> None:
    """Raise on a slice of another AnnData, which a set-up could not write into.

    Raises
    ------
    ValueError
        Then.

    Examples
    --------
    >>> import anndata
    >>> check_no_view(anndata.AnnData(np.ones((4, 2)))[:3])
    Traceback (most recent call last):
    ValueError: The cells are a view, a slice of another AnnData. Please run `adata = adata.copy()` first.
    """
    if adata.is_view:
        msg = "The cells are a view, a slice of another AnnData. Please run `adata = adata.copy()` first."
        raise ValueError(msg)


def check_genes(brought: Iterable[str], known: Iterable[str], remedy: str = ALIGN) -> None:
    """Raise unless genes are those that are known, in the same order: weights and effects belong to positions.

    Raises
    ------
    ValueError
        Otherwise; the message says how they differ.

    Examples
    --------
    >>> check_genes(["MYC", "SPI1"], ["MYC", "SPI1"])
    >>> check_genes(["SPI1", "MYC"], ["MYC", "SPI1"])
    Traceback (most recent call last):
    ValueError: The genes must be the 2 known ones in their order, but they are in another order...
    """
    now, wanted = np.array(list(brought), dtype=str), np.array(list(known), dtype=str)
    if np.array_equal(now, wanted):
        return
    absent, foreign = wanted[~np.isin(wanted, now)].tolist(), now[~np.isin(now, wanted)].tolist()
    if absent:
        found = f"{len(absent)} of them are absent, as {absent[:3]!r}"
    elif foreign:
        found = f"there are {len(foreign)} others, as {foreign[:3]!r}"
    else:
        found = "they are in another order" if len(now) == len(wanted) else "some are there more than once"
    msg = f"The genes must be the {len(wanted)} known ones in their order, but {found}. {remedy}"
    raise ValueError(msg)


def check_door(rna: AnnData, layer: str | None, known_genes: Iterable[str] | None) -> np.ndarray | None:
    """What must hold of cells whichever way they come in; total counts (N,), or None of minified data without counts.

    Parameters
    ----------
    rna
        Holds the counts.
    layer
        Layer with the counts, if they are not in X.
    known_genes
        Of the model they come to, in order; None for a first set-up.

    Raises
    ------
    ValueError, KeyError
        As :func:`check_genes` and :func:`check_counts` do.

    Examples
    --------
    >>> totals = check_door(adata, layer=None, known_genes=adata.var_names)
    >>> totals.shape == (adata.n_obs,)
    True
    """
    if known_genes is not None:
        check_genes(rna.var_names, known_genes)
    if minified_type(rna) == ADATA_MINIFY_TYPE.LATENT_POSTERIOR:
        return None
    return check_counts(rna, layer)


@contextmanager
def undone_if_it_fails(data: AnnData | MuData) -> Iterator[None]:
    """What a registration writes into an AnnData or MuData is taken back if it fails, however it fails.

    Examples
    --------
    >>> import anndata
    >>> screen = anndata.AnnData(np.ones((2, 2)))
    >>> try:
    ...     with undone_if_it_fails(screen):
    ...         screen.uns["_scvi_uuid"] = "half done"
    ...         raise ValueError
    ... except ValueError:
    ...     list(screen.uns)
    []
    """
    holders = [data, *getattr(data, "mod", {}).values()]
    before = [_own_entries(holder) for holder in holders]
    try:
        yield
    except BaseException:
        for holder, entries in zip(holders, before, strict=True):
            _put_back(holder, entries)
        raise


def _own_entries(holder: Any) -> dict[str, dict[str, Any]]:
    entries = {}
    for name in ("obs", "obsm", "uns"):
        mapping = getattr(holder, name)
        entries[name] = {key: mapping[key].copy() if name == "obs" else mapping[key] for key in _own_keys(mapping)}
    return entries


def _put_back(holder: Any, entries: dict[str, dict[str, Any]]) -> None:
    for name, kept in entries.items():
        mapping = getattr(holder, name)
        for key in set(_own_keys(mapping)).difference(kept):
            del mapping[key]
        for key, value in kept.items():
            if key not in mapping or not (mapping[key].equals(value) if name == "obs" else mapping[key] is value):
                mapping[key] = value


def _own_keys(mapping: Any) -> list[str]:
    return [key for key in mapping if isinstance(key, str) and key.startswith(OWN)]


# Which cells are contrasted with which, and which take no part: known from the set-up alone, before any training.


MOST_SHOWN = 3
FEW_CONTROL = 20  # cells, of which users are told


def contexts_of(registry: dict[str, Any]) -> list[str]:
    """Names of the registered contexts, none without a ``context_key``.

    Examples
    --------
    >>> contexts_of(model.adata_manager.registry)
    []
    """
    field = registry.get("field_registries", {}).get(REGISTRY.CONTEXT, {})
    return [str(name) for name in field.get("state_registry", {}).get("categorical_mapping", ())]


class CellGroups:
    """Perturbation, batch and context of every registered cell.

    A stratum is a batch inside a context: effects are contrasts with the control cells of the same stratum. Cells without
    counts say nothing, and cells of a stratum without control cells have nothing to be compared with.

    Parameters
    ----------
    manager
        Of the registered cells.

    Examples
    --------
    >>> groups = CellGroups(model.adata_manager)
    >>> groups.control, groups.n_batches
    ('control', 2)
    >>> bool((groups.table()["n_cells_used"] <= groups.table()["n_cells"]).all())
    True
    """

    def __init__(self, manager: ScreenManager) -> None:
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
        self.strata = self.context * self.n_batches + batch
        self.n_strata = max(1, len(self.contexts)) * self.n_batches
        self.takes_part = np.ones(len(batch), dtype=bool) if manager.takes_part is None else manager.takes_part
        self._has_counts = self.takes_part if manager.totals is None else manager.totals > 0
        self._batches = manager.get_state_registry(REGISTRY_KEYS.BATCH_KEY)["categorical_mapping"]

    @property
    def control_code(self) -> int:
        """Code of control."""
        return self.categories.index(self.control)

    @property
    def groups(self) -> np.ndarray:
        """Group (N,) of every cell, strata running fastest; -1 for cells that take no part."""
        return np.where(self.takes_part, self.codes * self.n_strata + self.strata, -1)

    def strata_of(self, context: str | None) -> np.ndarray:
        """Strata of a context, or all."""
        if context is None:
            return np.arange(self.n_strata)
        return self.contexts.index(context) * self.n_batches + np.arange(self.n_batches)

    def table(self, context: str | None = None) -> pd.DataFrame:
        """Cells of every perturbation that has any in a context, or at all, and how many enter its effect."""
        shape = (len(self.categories), self.n_strata)
        groups = self.codes * self.n_strata + self.strata
        n_cells, n_counted = (
            np.bincount(some, minlength=shape[0] * shape[1]).reshape(shape)[:, self.strata_of(context)]
            for some in (groups, groups[self.takes_part])
        )
        used = np.where(n_counted[self.control_code] > 0, n_counted, 0).sum(axis=1)
        table = pd.DataFrame({"n_cells": n_cells.sum(axis=1), "n_cells_used": used}, index=self.categories)
        return table[(table["n_cells"] > 0) & (table.index != self.control)]

    def check(self) -> None:
        """Raise where a perturbation cannot be contrasted with control at all.

        Raises
        ------
        ValueError
            Then; the message says why.
        """
        contexts: list[str | None] = [*self.contexts] or [None]
        for context in contexts:
            where = "" if context is None else f" in context {context!r}"
            of_control = self._counted(self.control_code, context) & self._has_counts
            if not of_control.any():
                msg = f"No cell of control {self.control!r} has counts{where}; effects need such cells."
                raise ValueError(msg)
            if np.bincount(self.strata[of_control]).max() < 2:
                msg = (
                    f"Control {self.control!r} must have two cells with counts in one batch at least{where}: without them "
                    f"nothing tells how much cells differ, and so how sure an effect is; got {int(of_control.sum())}, each in "
                    "a batch of its own. Add control cells, or set up without `batch_key`."
                )
                raise ValueError(msg)
            table = self.table(context)
            lost = list(table.index[table["n_cells_used"] == 0])
            empty = [name for name in lost if not self._counted(self.categories.index(name), context).any()]
            if empty:
                msg = (
                    f"No cell of {empty[:MOST_SHOWN]!r} has counts{where}, so there is no effect to measure. Drop those cells."
                )
                raise ValueError(msg)
            if lost:
                msg = (
                    f"Effects are contrasts inside batches, but {lost[:MOST_SHOWN]!r} share no batch with control "
                    f"{self.control!r}{where}. Drop those cells, or set up without `batch_key`."
                )
                raise ValueError(msg)

    def say_what_is_lost(self) -> None:
        """Warn of cells that take no part in effects, with numbers."""
        for message in (*self._without_counts(), *self._without_control()):
            say(f"{message} `model.target_cells()` lists them by perturbation.")

    def say_few_control(self) -> None:
        """Warn of few control cells, since their error is in every effect."""
        contexts: list[str | None] = [*self.contexts] or [None]
        for context in contexts:
            n = int((self._counted(self.control_code, context) & self._has_counts).sum())
            if n < FEW_CONTROL:
                where = "" if context is None else f" in context {context!r}"
                say(
                    f"Only {n} cells of control {self.control!r} take part in effects{where}. Their error is in every "
                    "effect, so all intervals are wide. More control cells make every answer better."
                )

    def _without_counts(self) -> Iterator[str]:
        empty = np.flatnonzero(~self.takes_part)
        if len(empty):
            cells = np.bincount(self.codes[empty], minlength=len(self.categories))
            sizes = np.bincount(self.codes, minlength=len(self.categories))
            yield (
                f"{len(empty)} of {len(self.codes)} cells have no counts, so they take no part in effects: "
                f"{self._listed(pd.Series(cells, self.categories), pd.Series(sizes, self.categories))}."
            )

    def _without_control(self) -> Iterator[str]:
        counted = self.takes_part
        has_control = np.bincount(self.strata[counted & (self.codes == self.control_code)], minlength=self.n_strata) > 0
        alone = np.flatnonzero(counted & ~has_control[self.strata])
        if len(alone):
            cells = pd.Series(np.bincount(self.codes[alone], minlength=len(self.categories)), self.categories)
            sizes = pd.Series(np.bincount(self.codes[counted], minlength=len(self.categories)), self.categories)
            strata = pd.Series(self.strata[alone]).value_counts()
            shown = ", ".join(f"{self._name_of(code)} ({size} cells)" for code, size in strata[:MOST_SHOWN].items())
            yield (
                f"{len(alone)} of {len(self.codes)} cells lie in batches without control cells, {shown}"
                f"{_more(len(strata))}, so they take no part in effects: {self._listed(cells, sizes)}."
            )

    def _listed(self, lost: pd.Series, sizes: pd.Series) -> str:
        lost = lost[lost > 0].sort_values(ascending=False, kind="stable")
        shown = ", ".join(f"{name!r} loses {n} of {sizes[name]}" for name, n in lost[:MOST_SHOWN].items())
        return shown + _more(len(lost))

    def _name_of(self, stratum: int) -> str:
        batch = repr(str(self._batches[stratum % self.n_batches]))
        return f"{batch} of {self.contexts[stratum // self.n_batches]!r}" if self.contexts else batch

    def _counted(self, code: int, context: str | None) -> np.ndarray:
        return self.takes_part & (self.codes == code) & np.isin(self.strata, self.strata_of(context))


def _more(n: int) -> str:
    return f" and {n - MOST_SHOWN} more" if n > MOST_SHOWN else ""


N_BLOCKS, BLOCK = 16, 256  # of cells that are looked at where a model is only asked, not trained
USERS = (REGISTRY_KEYS.SIZE_FACTOR_KEY, REGISTRY_KEYS.OBSERVED_LIB_SIZE)  # columns that are read where the user keeps them
AGAIN = "Set the cells up again and build a model of them, or put back what was there."


class ScreenManager(AnnDataManager):
    """Registers a screen, and answers for it as long as a model lives.

    scvi-tools writes codes into the AnnData, and reads the AnnData anew at every use: another set-up overwrites the codes, and
    whatever is done to the AnnData in place reaches the model. This manager remembers what it registered. Codes that another
    set-up wrote over are put back; cells that were dropped in place are followed; anything else that changed is refused.

    Examples
    --------
    >>> type(model.adata_manager).__name__
    'ScreenManager'
    >>> bool((model.adata_manager.totals == adata.X.sum(axis=1).A1).all())
    True
    """

    _kept: dict[tuple[str | None, str, str], Any]
    _codes: set[tuple[str | None, str, str]]
    _totals: np.ndarray | None
    _cells: pd.Index

    def register_fields(self, adata: AnnData | MuData, source_registry: dict | None = None, **transfer_kwargs: Any) -> None:
        """Register, all or nothing.

        Parameters
        ----------
        adata
            The cells.
        source_registry
            Of the model that they come to.
        **transfer_kwargs
            Of scvi-tools.

        Raises
        ------
        TypeError
            If it is no AnnData, or no MuData where that is registered.
        ValueError
            If genes or counts are not as they must be, or a category is unknown.
        """
        check_kind(adata, is_mudata=self._counts_field.mod_key is not None)
        known = None
        if source_registry is not None:
            fields = source_registry["field_registries"]
            known = fields[REGISTRY_KEYS.X_KEY]["state_registry"].get("column_names")
        with undone_if_it_fails(adata):
            self._totals = check_door(self._rna_of(adata), self._counts_field.attr_key, known)
            super().register_fields(adata, source_registry, **transfer_kwargs)
            if source_registry is not None and not transfer_kwargs.get("extend_categories"):
                _check_categories(self.registry["field_registries"], source_registry["field_registries"])
        self._remember()

    def register_new_fields(self, fields: list[BaseAnnDataField]) -> None:
        """Register further fields, as minification does."""
        super().register_new_fields(fields)
        self._remember()

    def validate(self, *, whole: bool = False) -> None:
        """See that the AnnData is what was registered; put back codes that another set-up wrote over.

        Parameters
        ----------
        whole
            Whether to look at the counts of all cells, as before training, and not of 4,096 at most.

        Raises
        ------
        ValueError
            If genes, counts or a column that the model reads were changed in place, or there are cells of which the set-up knew
            nothing.
        """
        self._assert_anndata_registered()
        names = self.get_state_registry(REGISTRY_KEYS.X_KEY)["column_names"]
        check_genes(self._rna_of(self.adata).var_names, names, f"They were changed in place after the set-up. {AGAIN}")
        if self._counts_field.mod_key is not None:
            check_modalities(self.adata, {place[0] for place in self._kept if place[0] is not None})
        self._follow_cells()
        for place, value in self._kept.items():
            self._put_back(place, value)
        self._check_counts(whole=whole)
        self.adata.uns[MANAGER_UUID] = self.id

    @property
    def totals(self) -> np.ndarray | None:
        """Total counts (N,) of the cells, as far as there are counts."""
        return self._totals

    @property
    def rna(self) -> AnnData:
        """What holds the counts."""
        return self._rna_of(self.adata)

    @property
    def takes_part(self) -> np.ndarray | None:
        """Which cells (N,) say something of expression: those with counts, or all where size factors say how deep they are."""
        if self._totals is None or REGISTRY_KEYS.SIZE_FACTOR_KEY in self.data_registry:
            return None
        return self._totals > 0

    @property
    def _counts_field(self) -> BaseAnnDataField:
        return next(field for field in self.fields if field.registry_key == REGISTRY_KEYS.X_KEY)

    def _rna_of(self, data: AnnData | MuData) -> AnnData:
        modality = self._counts_field.mod_key
        if modality is None:
            return data
        check_modalities(data, {modality})
        return data.mod[modality]

    def _remember(self) -> None:
        """Keep the registered values of every cell; counts by their totals, they are too many."""
        self._cells = self.adata.obs_names
        self._kept, self._codes = {}, set()
        for key, location in self.data_registry.items():
            place = (location.get("mod_key"), location["attr_name"], location["attr_key"])
            is_own = str(place[2]).startswith(f"{OWN}_{key}") and key not in USERS
            if place[1] == "obs" or (place[1] == "obsm" and is_own):
                self._kept[place] = _mapping(self.adata, place)[place[2]].copy()
                self._codes |= {place} if is_own else set()

    def _follow_cells(self) -> None:
        """Where cells were dropped or sorted in place, take the remembered values of those that are there."""
        now = self.adata.obs_names
        if now.equals(self._cells):
            return
        if len(now) == len(self._cells) and all(self._holds(place) for place in self._codes if place[1] == "obs"):
            self._cells = now  # only their names changed
            return
        rows = self._cells.get_indexer(now) if self._cells.is_unique else np.array([-1])
        if (rows < 0).any():
            msg = (
                f"The registered cells were changed in place: there are {len(now)}, {int((rows < 0).sum())} of them or more "
                f"unknown to the set-up of {len(self._cells)}. {AGAIN}"
            )
            raise ValueError(msg)
        self._cells = now
        self._kept = {place: value.iloc[rows] for place, value in self._kept.items()}
        self._totals = None if self._totals is None else self._totals[rows]

    def _holds(self, place: tuple[str | None, str, str]) -> bool:
        mapping, key = _mapping(self.adata, place), place[2]
        return key in mapping and np.array_equal(np.asarray(mapping[key]), np.asarray(self._kept[place]))

    def _put_back(self, place: tuple[str | None, str, str], value: Any) -> None:
        if self._holds(place):
            return
        mapping, key = _mapping(self.adata, place), place[2]
        if place not in self._codes:
            msg = f"obs[{key!r}] was changed in place after the set-up, but a model reads it. {AGAIN}"
            raise ValueError(msg)
        mapping[key] = value.set_axis(self.adata.obs_names if place[0] is None else self.adata.mod[place[0]].obs_names)

    def _check_counts(self, *, whole: bool) -> None:
        if self._totals is None:
            return
        n = len(self._totals)
        blocks = None
        if not whole and n > N_BLOCKS * BLOCK:
            blocks = [slice(start, start + BLOCK) for start in np.linspace(0, n - BLOCK, N_BLOCKS).astype(int)]
        totals = check_counts(self._rna_of(self.adata), self._counts_field.attr_key, blocks)
        rows = np.concatenate([np.arange(n)[block] for block in blocks or [slice(None)]])
        changed = np.flatnonzero(totals != self._totals[rows])
        if len(changed):
            first = rows[changed[0]]
            msg = (
                f"The counts were changed in place after the set-up: cell {self._cells[first]!r} has {totals[changed[0]]:g} "
                f"and had {self._totals[first]:g}. {AGAIN}"
            )
            raise ValueError(msg)


def _mapping(data: AnnData | MuData, place: tuple[str | None, str, str]) -> Any:
    return getattr(data if place[0] is None else data.mod[place[0]], place[1])


def _check_categories(now: dict, before: dict) -> None:
    """Scvi-tools lets a new category pass that is false as a number, as 0 is."""
    for key, field in now.items():
        known = before.get(key, {}).get("state_registry", {}).get("categorical_mapping")
        found = field["state_registry"].get("categorical_mapping")
        if known is not None and found is not None and len(found) > len(known):
            msg = (
                f"Category {found[len(known)]} of {field['state_registry']['original_key']!r} is unknown to the model, which "
                f"knows {[str(name) for name in known[:10]]}. New ones come in by `DBDiffusion.load_query_data`."
            )
            raise ValueError(msg)
