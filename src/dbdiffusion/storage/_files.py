"""Files that appear whole or not at all, whenever a run is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from typing import TYPE_CHECKING, NoReturn
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# A training that is broken off says what is left, Ctrl-C does not end the session, and SIGTERM leaves no litter.


ENDED_BY_SIGTERM = 128 + signal.SIGTERM  # the exit code that shells give a process that it ended


@contextlib.contextmanager
def interruptible(note: str) -> Iterator[None]:
    """Add a note to whatever exception leaves the block.

    Lightning answers Ctrl-C by ignoring further ones and exiting from Python, which would end a notebook's kernel; here it
    stays a ``KeyboardInterrupt``, and the next Ctrl-C is heard.

    Parameters
    ----------
    note
        What is left, and what to do.

    Raises
    ------
    KeyboardInterrupt
        For Lightning's exit on Ctrl-C.

    Examples
    --------
    >>> with interruptible("Nothing is lost."):
    ...     raise ValueError("broken off")
    Traceback (most recent call last):
    ValueError: broken off
    Nothing is lost.
    """
    handler = signal.getsignal(signal.SIGINT) if _hears_signals() else None
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        raise KeyboardInterrupt(note) from None
    except BaseException as error:
        error.add_note(note)
        raise
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


@contextlib.contextmanager
def heeding_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as ``SystemExit``, so that it cleans up; a handler of the user's own stays.

    Further ones are ignored while it does. An exit that gets lost on the way, as in a callback of h5py or a destructor, which
    Python lets no exception leave, is made up for at the end of the block, or of one inside it.

    Examples
    --------
    >>> import os
    >>> try:
    ...     with heeding_sigterm():
    ...         os.kill(os.getpid(), signal.SIGTERM)
    ... except SystemExit as end:
    ...     print(end.code)
    143
    """
    hears = _hears_signals()
    is_outermost = hears and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if is_outermost:
        signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        is_leaving = hears and signal.getsignal(signal.SIGTERM) is _ignore
        if is_outermost:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if is_leaving:
            raise SystemExit(ENDED_BY_SIGTERM)


def _leave(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, _ignore)
    raise SystemExit(ENDED_BY_SIGTERM)


def _ignore(*_: object) -> None:
    """Stand for :data:`signal.SIG_IGN`, and tell that a SIGTERM was heard."""


def _hears_signals() -> bool:
    return threading.current_thread() is threading.main_thread()


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
