"""Reading a user's screen from disk."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import h5py

if TYPE_CHECKING:
    from anndata import AnnData

MISTAKEN = {  # what other files that are HDF5 too have at their root, and how to read them
    "mod": "It is a MuData file: write its RNA, `mudata.read(file)['rna'].write_h5ad(...)`, with perturbations in its `obs`.",
    "matrix": "It is of CellRanger, or a loom file: read it by `scanpy.read_10x_h5` or `scanpy.read_loom`, and write an h5ad.",
}
LOOK = """
import json, sys
import h5py

def look(_name, element):
    dict(element.attrs)

with h5py.File(sys.argv[1]) as root:
    look("", root)
    root.visititems(look)
    print(json.dumps(list(root)))
"""
SECONDS = 60  # for the names and attributes of a file, not its numbers; on a local disk it takes less than one
BLOSC_HEADER = 16  # bytes, the last four of which are the size of the chunk
CHUNK_NAME = re.compile(r"(c/)?\d+([./]\d+)*")  # what else lies in a folder is no part of a store
ZARR = (".zgroup", "zarr.json", ".zattrs")  # a store has one of them


def read_screen(file: str | Path) -> AnnData:
    """Read an h5ad file or a zarr store of an AnnData.

    Parameters
    ----------
    file
        Cells by genes with raw counts, for instance a data set of scPerturb (Peidli et al., Nat Methods 2024).

    Raises
    ------
    FileNotFoundError
        If it does not exist.
    ValueError
        If it is neither, or damaged; the message is one line and names the file.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "screen.h5ad"
    >>> ad.AnnData(shape=(3, 2)).write_h5ad(file)
    >>> read_screen(file).shape
    (3, 2)
    >>> read_screen("no_such_file.h5ad")
    Traceback (most recent call last):
    FileNotFoundError: 'no_such_file.h5ad' does not exist.
    """
    file = Path(file)
    if not file.exists():
        msg = f"{str(file)!r} does not exist."
        raise FileNotFoundError(msg)
    if file.is_dir():
        if not any((file / name).exists() for name in ZARR):
            msg = f"{str(file)!r} is a folder, but no zarr store; name a file or a store."
            raise ValueError(msg)
        read, kind = _read_store, "zarr store of an AnnData"
    else:
        _check_h5ad(file)
        read, kind = ad.read_h5ad, "h5ad file"
    try:
        return read(file)
    except Exception as error:  # a damaged file can raise anything of h5py, zarr and anndata
        msg = f"{str(file)!r} cannot be read as a {kind}; was it cut off? {_first_line(error)}"
        raise ValueError(msg) from error


def _read_store(store: Path) -> AnnData:
    _check_chunks(store)
    return ad.read_zarr(store)


def _check_chunks(store: Path) -> None:
    """Raise unless chunks are whole: blosc reads on behind the end of one that was cut, and what it finds may look right."""
    for folder in {file.parent for name in (".zarray", "zarr.json") for file in store.rglob(name) if _ends_in_blosc(file)}:
        for chunk in folder.rglob("*"):
            if not CHUNK_NAME.fullmatch(chunk.relative_to(folder).as_posix()) or not chunk.is_file():
                continue
            with chunk.open("rb") as handle:
                header = handle.read(BLOSC_HEADER)
            if int.from_bytes(header[-4:], "little") != chunk.stat().st_size:
                msg = f"the chunk {chunk.relative_to(store).as_posix()!r} has another size than it says"
                raise ValueError(msg)


def _ends_in_blosc(file: Path) -> bool:
    """Whether the chunks of the array that a file describes are blosc's as they lie on the disk."""
    try:
        said = json.loads(file.read_bytes())
        last = said["codecs"][-1]["name"] if file.name == "zarr.json" else (said["compressor"] or {})["id"]
    except (ValueError, KeyError, TypeError, IndexError):  # no array, not compressed, or damaged, which reading it will tell
        return False
    return bool(last == "blosc")


def _check_h5ad(file: Path) -> None:
    if not h5py.is_hdf5(file):
        msg = f"{str(file)!r} is not an h5ad file: it is not HDF5."
        raise ValueError(msg)
    found = _names_at_the_root(file)
    missing = {"obs", "var"} - found
    if missing or "mod" in found:
        hint = next((f" {words}" for name, words in MISTAKEN.items() if name in found), "")
        lacks = f"it has no {' and no '.join(sorted(missing))}" if missing else "it has modalities"
        msg = f"{str(file)!r} is not an h5ad file: {lacks}.{hint}"
        raise ValueError(msg)


def _names_at_the_root(file: Path) -> set[str]:
    """Read by another process, since a damaged file can make the HDF5 library crash, or go round in circles for ever."""
    command = [sys.executable, "-P", "-c", LOOK, str(file)]  # -P: no file beside the user is taken for h5py
    try:
        look = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        msg = f"{str(file)!r} cannot be read as an h5ad file: its index has no end within {SECONDS} seconds. It is damaged."
        raise ValueError(msg) from error
    if look.returncode < 0:
        msg = f"{str(file)!r} cannot be read as an h5ad file: the HDF5 library crashes. It is damaged."
        raise ValueError(msg)
    if look.returncode > 0:
        said = (look.stderr.strip().splitlines() or [""])[-1]
        msg = f"{str(file)!r} cannot be read as an h5ad file; was it cut off? ({said})"
        raise ValueError(msg)
    return set(json.loads(look.stdout))


def _first_line(error: Exception) -> str:
    return f"({type(error).__name__}: {(str(error).splitlines() or [''])[0]})"
