"""Generated cells as they are made, block by block: kept as sparse rows in memory, or written to a file."""

from __future__ import annotations

import contextlib
import math
import os
from typing import TYPE_CHECKING

import anndata as ad
import h5py
import numpy as np
import scipy.sparse as sp
from anndata.io import write_elem

from dbdiffusion.storage._files import whole_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    import pandas as pd
    from anndata import AnnData

CHUNK = 2**16  # values of a chunk on disk
BYTES_OF_A_COUNT = 8  # in memory: the count and its column


class InMemory:
    """Cells in memory; never more than the result, half of it again, and a block.

    Parameters
    ----------
    n_cells
        That will come.

    Raises
    ------
    ValueError
        From :meth:`add`, if all together will not fit into the memory of this machine.

    Examples
    --------
    >>> import pandas as pd
    >>> cells = InMemory(3)
    >>> cells.add(np.array([[0, 1], [2, 0]]))
    >>> cells.add(np.array([[0, 0]]))
    >>> cells.finish(pd.DataFrame(index=list("abc")), pd.DataFrame(index=["G1", "G2"]), {}).X.toarray().tolist()
    [[0.0, 1.0], [2.0, 0.0], [0.0, 0.0]]
    """

    def __init__(self, n_cells: int) -> None:
        self._n_cells = n_cells
        self._data: list[np.ndarray] = []
        self._indices: list[np.ndarray] = []
        self._n_in_row: list[np.ndarray] = []

    def add(self, counts: np.ndarray) -> None:
        """Keep what is not zero."""
        rows = sp.csr_matrix(counts.astype(np.float32, copy=False))
        if not self._data:
            check_memory(self._n_cells, rows.nnz / len(counts))
        self._data.append(rows.data)
        self._indices.append(rows.indices)
        self._n_in_row.append(np.diff(rows.indptr))

    def finish(self, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any]) -> AnnData:
        """The AnnData; what was kept is given away piece by piece."""
        data, self._data = np.concatenate(self._data), []
        indices, self._indices = np.concatenate(self._indices), []
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(self._n_in_row), dtype=np.int64)])
        return ad.AnnData(sp.csr_matrix((data, indices, indptr), shape=(len(obs), len(var))), obs=obs, var=var, uns=uns)


class OnDisk:
    """Cells in an h5ad file, of which only a block is in memory.

    Parameters
    ----------
    file
        Open to write.
    n_genes
        G.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import anndata
    >>> import pandas as pd
    >>> file = Path(tempfile.mkdtemp()) / "cells.h5ad"
    >>> with on_disk(file, n_genes=2) as cells:
    ...     cells.add(np.array([[0, 1], [2, 0]]))
    ...     cells.finish(pd.DataFrame(index=list("ab")), pd.DataFrame(index=["G1", "G2"]), {})
    >>> anndata.read_h5ad(file).X.toarray().tolist()
    [[0.0, 1.0], [2.0, 0.0]]
    """

    def __init__(self, file: h5py.File, n_genes: int) -> None:
        self._file, self._n_genes, self._n_counts = file, n_genes, 0
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        self._x = file.create_group("X")
        self._x.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
        for name, dtype in (("data", np.float32), ("indices", np.int64 if n_genes > np.iinfo(np.int32).max else np.int32)):
            self._x.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(CHUNK,))
        self._x.create_dataset("indptr", data=np.zeros(1, dtype=np.int64), maxshape=(None,), chunks=(CHUNK,))

    def add(self, counts: np.ndarray) -> None:
        """Write what is not zero."""
        rows = sp.csr_matrix(counts.astype(np.float32, copy=False))
        self._append("data", rows.data)
        self._append("indices", rows.indices)
        self._append("indptr", self._n_counts + rows.indptr[1:].astype(np.int64))
        self._n_counts += rows.nnz

    def finish(self, obs: pd.DataFrame, var: pd.DataFrame, uns: dict[str, Any]) -> None:
        """Write what belongs to the cells."""
        self._x.attrs["shape"] = np.array([len(obs), self._n_genes])
        for name, part in {"obs": obs, "var": var, "uns": uns}.items():
            write_elem(self._file, name, part)
        for name in ("layers", "obsm", "varm", "obsp", "varp"):
            write_elem(self._file, name, {})

    def _append(self, name: str, values: np.ndarray) -> None:
        dataset = self._x[name]
        dataset.resize(len(dataset) + len(values), axis=0)
        dataset[len(dataset) - len(values) :] = values


@contextlib.contextmanager
def on_disk(path: Path, n_genes: int) -> Iterator[OnDisk]:
    """A new h5ad file that appears when the block ends without an error.

    Raises
    ------
    FileExistsError
        If there is one.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "cells.h5ad"
    >>> try:
    ...     with on_disk(file, n_genes=2) as cells:
    ...         raise ValueError
    ... except ValueError:
    ...     file.exists()
    False
    """
    if path.exists():
        msg = f"{str(path)!r} exists; name another file, or remove it."
        raise FileExistsError(msg)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished, h5py.File(unfinished, "w") as file:
        yield OnDisk(file, n_genes)


def check_memory(n_cells: int, n_counts: float) -> None:
    """Raise unless so many cells, with so many counts that are not zero, fit into the memory of this machine.

    Raises
    ------
    ValueError
        Otherwise.

    Examples
    --------
    >>> check_memory(1000, 50.0)
    """
    needed, installed = BYTES_OF_A_COUNT * n_counts * n_cells, installed_memory()
    if needed > installed:
        msg = (
            f"{n_cells:,} cells take about {needed / 1e9:,.0f} GB, but this machine has {installed / 1e9:,.0f} GB of memory. "
            "Have them written to a file: `generate(..., path='cells.h5ad')`."
        )
        raise ValueError(msg)


def installed_memory() -> float:
    """Bytes of memory; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf
