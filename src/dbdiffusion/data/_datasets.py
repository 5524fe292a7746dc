"""Reading a user's screen from disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import h5py

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData


def read_screen(file: Path) -> AnnData:
    """Read an h5ad file.

    Parameters
    ----------
    file
        Cells by genes with raw counts, for instance a data set of scPerturb (Peidli et al., Nat Methods 2024).

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    ValueError
        If it is no h5ad file.
    """
    if not file.is_file():
        msg = f"{str(file)!r} does not exist."
        raise FileNotFoundError(msg)
    if not h5py.is_hdf5(file):
        msg = f"{str(file)!r} is not an h5ad file: it is not HDF5."
        raise ValueError(msg)
    with h5py.File(file) as groups:
        missing = {"obs", "var"} - set(groups)
    if missing:
        msg = f"{str(file)!r} is not an h5ad file: it has no {' and no '.join(sorted(missing))}."
        raise ValueError(msg)
    return ad.read_h5ad(file)
