"""The check at every door that cells come in by: what they are, which genes they have, and that their counts are counts."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from anndata import AnnData
from mudata import MuData

from dbdiffusion._compat import ADATA_MINIFY_TYPE, minified_type
from dbdiffusion.data._validate import check_counts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
