"""What a run was made from: command, file, versions."""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dbdiffusion.storage import checksum

if TYPE_CHECKING:
    from argparse import Namespace

PACKAGES = ("dbdiffusion", "scvi-tools", "torch", "anndata", "diffusers", "numpy")


def provenance(arguments: Namespace) -> dict[str, Any]:
    """What the summary of a run begins with: ``seed``, ``versions``, ``arguments``, ``input``.

    Parameters
    ----------
    arguments
        Of the main job.
    """
    return {
        "seed": arguments.seed,
        "versions": {package: version(package) for package in PACKAGES},
        "arguments": {name: _plain(value) for name, value in sorted(vars(arguments).items()) if _is_given(value)},
        "input": None if arguments.h5ad is None else {"file": arguments.h5ad.name, "sha256": fingerprint(arguments.h5ad)},
    }


def fingerprint(file: Path) -> str:
    """SHA-256 of a file, or of the names and the SHA-256 of all files of a folder.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "screen.h5ad"
    >>> file.write_bytes(b"counts")
    6
    >>> fingerprint(file)[:8]
    'cdd93696'
    """
    if not file.is_dir():
        return checksum(file)
    digest = hashlib.sha256()
    for part in sorted(path for path in file.rglob("*") if path.is_file()):
        digest.update(f"{part.relative_to(file).as_posix()} {checksum(part)}\n".encode())
    return digest.hexdigest()


def _is_given(value: Any) -> bool:
    """Zero is something, nothing is not."""
    return value is not None and value is not False and value != []


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
