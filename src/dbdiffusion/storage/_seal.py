"""Checkpoints that know whether they are as they were saved: torch reads a file whose bits were changed without a word.

The seal is the comment of the zip archive that a checkpoint is, so other readers pass over it: the checksums of files that were
saved with it, then that of all that comes before.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MARK = b"dbdiffusion-seal:"
LENGTH = 64  # of a checksum
LONGEST = 2**16  # of a comment
IS_FOLDER = 0x10  # of a zip archive's member, in its external attributes
_AT_ONCE = 2**20


def seal(file: Path, companions: Iterable[Path] = ()) -> None:
    """Give a checkpoint its own checksum and those of files that were saved with it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from pathlib import Path
    >>> import torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "model.pt"
    ...     torch.save({"a": 1}, file)
    ...     seal(file)
    ...     check_whole(file), torch.load(file)
    ({}, {'a': 1})
    """
    record = MARK + json.dumps({other.name: checksum(other) for other in companions}).encode()
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file, "a") as archive:
            archive.comment = record + bytes(LENGTH)
    else:  # torch's format of before
        with file.open("ab") as handle:
            handle.write(record + bytes(LENGTH))
    digest = checksum(file, leaving=LENGTH)
    with file.open("r+b") as handle:
        handle.seek(-LENGTH, os.SEEK_END)
        handle.write(digest.encode())


def check_whole(file: Path) -> dict[str, str]:
    """Raise unless a checkpoint is as it was saved; returns the checksums of the files that were saved with it.

    One without a seal, of scvi-tools or of an earlier version, is checked by the checksums of its members.

    Raises
    ------
    ValueError
        If it is cut off, or any bit was changed.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "model.pt"
    >>> _ = file.write_bytes(b"cut off")
    >>> check_whole(file)
    Traceback (most recent call last):
    ValueError: '...model.pt' is no whole checkpoint: ...
    """
    with file.open("rb") as handle:
        handle.seek(-min(LONGEST, file.stat().st_size), os.SEEK_END)
        tail = handle.read()
    place = tail.rfind(MARK)
    if place < 0:
        _check_members(file)
        return {}
    if tail[-LENGTH:] != checksum(file, leaving=LENGTH).encode():
        raise ValueError(_damaged(file, "its checksum is not the one it was saved with"))
    return json.loads(tail[place + len(MARK) : -LENGTH])


def check_companion(file: Path, known: dict[str, str]) -> None:
    """Raise unless a file is the one that was saved with a checkpoint, if the checkpoint knows.

    Raises
    ------
    ValueError
        Otherwise.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "adata.h5ad"
    >>> _ = file.write_bytes(b"other cells")
    >>> check_companion(file, {"adata.h5ad": "0f"})
    Traceback (most recent call last):
    ValueError: '...adata.h5ad' is not the file that was saved with the model: its checksum is another...
    """
    if file.name in known and checksum(file) != known[file.name]:
        msg = (
            f"{str(file)!r} is not the file that was saved with the model: its checksum is another. Was it damaged, or is it "
            "of a save that was killed? If you changed it, read it and give it: `load(folder, adata=...)`."
        )
        raise ValueError(msg)


def checksum(file: Path, leaving: int = 0) -> str:
    """SHA-256 of a file but for its last bytes.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "cells"
    >>> _ = file.write_bytes(b"counts and a seal")
    >>> checksum(file, leaving=11) == hashlib.sha256(b"counts").hexdigest()
    True
    """
    digest, left = hashlib.sha256(), file.stat().st_size - leaving
    with file.open("rb") as handle:
        while left > 0 and (block := handle.read(min(_AT_ONCE, left))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()


def _check_members(file: Path) -> None:
    """By the checksums of the archive, which cover the members; their headers have to agree with each other."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            odd = [one.filename for one in archive.infolist() if not _is_plain(one)]
            odd += names if len(set(names)) < len(names) else []
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ValueError(_damaged(file, str(error))) from error
    if damaged is not None or odd:
        raise ValueError(_damaged(file, f"its member {damaged or odd[0]!r} is not as it was written"))


def _is_plain(member: zipfile.ZipInfo) -> bool:
    """Torch stores members as they are, and reads nothing of one that is marked as a folder."""
    return member.compress_size == member.file_size and not member.compress_type and not member.external_attr & IS_FOLDER


def _damaged(file: Path, why: str) -> str:
    return f"{str(file)!r} is no whole checkpoint: {why}. Was it cut off or changed, by a full disk or a copy that broke?"
