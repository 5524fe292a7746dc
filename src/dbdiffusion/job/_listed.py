"""Names of perturbations in a file, one a line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def listed_targets(file: Path) -> list[str]:
    r"""The names, each once, in the order of the file; empty lines do not count.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no text, or names nothing.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "targets.txt"
    ...     _ = file.write_text("MYC\n\nSPI1\nMYC\n")
    ...     listed_targets(file)
    ['MYC', 'SPI1']
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        msg = f"{str(file)!r} is no text with a name a line: {error}"
        raise ValueError(msg) from error
    names = list(dict.fromkeys(name for line in lines if (name := line.strip())))
    if not names:
        msg = f"{str(file)!r} names no perturbation: write one a line."
        raise ValueError(msg)
    return names
