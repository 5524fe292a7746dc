"""An output folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def check_output(folder: Path, *, overwrite: bool) -> None:
    """Raise ``FileExistsError`` if the folder holds something and may not be replaced.

    Examples
    --------
    >>> check_output(Path("a folder that does not exist"), overwrite=False)
    """
    if folder.is_file():
        msg = f"{str(folder)!r} is a file; name a folder with `--out`."
        raise FileExistsError(msg)
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        msg = f"{str(folder)!r} is not empty; add `--overwrite` to replace it, or name another folder with `--out`."
        raise FileExistsError(msg)


@contextlib.contextmanager
def whole_folder(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside ``folder`` that takes its place when the block ends without an error.

    A failed or killed run leaves what was in ``folder`` before; a failed one also removes the temporary folder.

    Parameters
    ----------
    folder
        The folder to make.
    overwrite
        Whether it may be replaced.
    """
    check_output(folder, overwrite=overwrite)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.unfinished-", dir=folder.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        if folder.exists():
            replaced = Path(tempfile.mkdtemp(prefix=f".{folder.name}.replaced-", dir=folder.parent))
            folder.rename(replaced / folder.name)
            unfinished.rename(folder)
            shutil.rmtree(replaced)
        else:
            unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
