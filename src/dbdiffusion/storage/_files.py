"""Files that appear whole or not at all, whenever a run is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING
from uuid import uuid4

from dbdiffusion.storage._interruption import heeding_sigterm

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def write_whole(file: Path, content: bytes) -> None:
    """Write beside the file, then put it in its place.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "a.txt", b"text")
    ...     (Path(folder) / "a.txt").read_text()
    'text'
    """
    with whole_file(file) as unfinished:
        unfinished.write_bytes(content)


@contextlib.contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """A file to write that takes the place of ``file`` when the block ends without an error.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder) / "a.txt") as unfinished:
    ...         _ = unfinished.write_text("text")
    ...     [file.name for file in Path(folder).iterdir()]
    ['a.txt']
    """
    unfinished = unfinished_name(file.parent, file.name)
    with heeding_sigterm():
        try:
            yield unfinished
            _sync(unfinished)
            unfinished.replace(file)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def whole_files(folder: Path, last: str) -> Iterator[Path]:
    """A folder to write files into that get their places when the block ends without an error.

    A new folder appears at once. In one that exists, which may be a mount point, files are replaced one by one, ``last`` after
    all others; files of other names stay. At no time is there a folder without a ``last`` that had one.

    Parameters
    ----------
    folder
        The final one.
    last
        Name of the file that makes the others valid, and can tell whether they are its own.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     with whole_files(Path(parent) / "new", last="a.txt") as unfinished:
    ...         _ = (unfinished / "a.txt").write_text("text")
    ...     (Path(parent) / "new" / "a.txt").read_text()
    'text'
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = unfinished_name(folder if folder.exists() else folder.parent, folder.name)  # always of its file system
    with heeding_sigterm():
        try:
            unfinished.mkdir()
            yield unfinished
            for file in unfinished.iterdir():
                _sync(file)
            if folder.exists():
                for file in sorted(unfinished.iterdir(), key=lambda file: file.name == last):
                    file.replace(folder / file.name)
                unfinished.rmdir()
            else:
                unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


def unfinished_name(parent: Path, name: str) -> Path:
    """A path that nothing has, hidden from listings; it is known before it is made, so that it can always be removed.

    Examples
    --------
    >>> from pathlib import Path
    >>> unfinished_name(Path("results"), "model").name.startswith(".")
    True
    """
    return parent / f".{name}.unfinished-{uuid4().hex[:12]}"


def _sync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
