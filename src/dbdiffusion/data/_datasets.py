"""Reading a user's screen from disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad

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
    try:
        return ad.read_h5ad(file)
    except (OSError, TypeError, KeyError) as error:
        msg = f"{str(file)!r} is not an h5ad file ({error})."
        raise ValueError(msg) from error
