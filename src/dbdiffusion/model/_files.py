"""Files that appear whole or not at all, whenever a run is killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path


def write_whole(file: Path, content: bytes) -> None:
    """Write beside the file, then put it in its place.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "a.txt", b"text")
    ...     (Path(folder) / "a.txt").read_text()
    'text'
    """
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.unfinished-", dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as unfinished:
            unfinished.write(content)
            unfinished.flush()
            os.fsync(unfinished.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def move_into_place(unfinished: Path, folder: Path, last: str) -> None:
    """Give a folder the files of an unfinished one.

    A new folder appears at once. In one that exists files are replaced one by one, ``last`` after all others; if there are
    others, the old ``last`` goes first, so that it is never beside files it does not belong to.

    Parameters
    ----------
    unfinished
        Beside ``folder``; it is gone afterwards.
    folder
        The final one.
    last
        Name of the file that makes the others valid.
    """
    unfinished.chmod(0o755)
    if not folder.exists():
        unfinished.rename(folder)
        return
    others = [file for file in unfinished.iterdir() if file.name != last]
    if others:
        (folder / last).unlink(missing_ok=True)
    for file in others:
        file.replace(folder / file.name)
    (unfinished / last).replace(folder / last)
    shutil.rmtree(unfinished)
