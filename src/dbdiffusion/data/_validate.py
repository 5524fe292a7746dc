"""Checks of a user's AnnData, each failure worded: what must hold, what was found, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData


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
    if not np.issubdtype(values.dtype, np.number):
        problem: str | None = f"of type {values.dtype}"
    elif np.issubdtype(values.dtype, np.complexfloating):
        problem = "complex"
    elif not np.isfinite(values).all():
        problem = "NaN or infinite"
    elif (values < 0).any():
        problem = "negative"
    elif not np.issubdtype(values.dtype, np.integer) and (values != np.floor(values)).any():
        problem = "fractional"
    else:
        return
    msg = (
        f"Counts must be finite, non-negative integers (raw UMIs), but some are {problem}. Normalised values cannot be used; "
        "name the layer with raw counts, `setup_anndata(adata, layer=...)`, and leave it as it is as long as a model needs it."
    )
    raise ValueError(msg)
