"""An output folder that appears at the end, takes nobody's files with it, and can be written before any work is done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from dbdiffusion.storage import checksum, heeding_sigterm

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator


# What a run was made from: command, file, versions.


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


SUMMARY, REPORT, MODEL, STORE = "summary.json", "report.md", "model", "effects.zarr"
WRITTEN = frozenset(
    {
        SUMMARY, REPORT, MODEL, STORE, "effects.csv", "differential_expression.csv", "generated.h5ad", "cells.png",
        "predicted_against_observed.png", "gene_intervals.png", "volcano.png", "ranked_effects.png", "calibration.png",
        "losses.png", "report.html", "targets.csv", "perturbations.png",
    }
)  # fmt: skip
NOT_FILES = frozenset({"lost+found"})  # in an empty volume


def check_output(folder: Path, *, overwrite: bool, source: Path | None = None) -> None:
    """Raise unless a report can be put into a folder without taking anything else away.

    Parameters
    ----------
    folder
        Absent, empty, or, to be replaced, an earlier report and nothing else.
    overwrite
        Whether an earlier report may be replaced.
    source
        File or folder of the screen, which may not lie in it, nor it in them.

    Raises
    ------
    FileExistsError
        If the folder holds something that may not be replaced.
    ValueError
        If it is none of its own: the present folder, one that holds it, or one that holds the screen.

    Examples
    --------
    >>> check_output(Path("a folder that does not exist"), overwrite=False)
    """
    resolved, here = folder.resolve(), Path.cwd()
    if resolved in (here, *here.parents):
        msg = f"`--out` must be a folder of its own, but {str(folder)!r} is the one that this runs in, or holds it."
        raise ValueError(msg)
    if source is not None and (
        resolved in (source.resolve(), *source.resolve().parents) or source.resolve() in resolved.parents
    ):
        msg = f"`--out` must be a folder of its own, but {str(folder)!r} holds the input {str(source)!r}, or lies in it."
        raise ValueError(msg)
    files = [parent for parent in (resolved, *resolved.parents) if parent.exists() and not parent.is_dir()]
    if files:
        msg = f"{str(files[0])!r} is a file; name a folder with `--out`."
        raise FileExistsError(msg)
    foreign = _foreign(resolved)
    if foreign:
        msg = (
            f"{str(folder)!r} holds {foreign[0]!r}, which no report of this job wrote, so it is not replaced. Name another "
            "folder with `--out`, or move what is in it."
        )
        raise FileExistsError(msg)
    if _entries(resolved) and not overwrite:
        msg = f"{str(folder)!r} is not empty; add `--overwrite` to replace it, or name another folder with `--out`."
        raise FileExistsError(msg)


@contextlib.contextmanager
def whole_folder(folder: Path, *, overwrite: bool, source: Path | None = None) -> Iterator[Path]:
    """A temporary folder that takes the place of ``folder`` when the block ends.

    It is made at once, so that a folder that cannot be written is found out before any work. It lies beside ``folder``, or
    inside of a mount point, which cannot be replaced itself. An error in the block removes it, unless it holds a summary by
    then: what was done is not lost. A block that is broken off (Ctrl-C, SIGTERM) leaves nothing but what was there before.

    Parameters
    ----------
    folder, overwrite, source
        As in :func:`check_output`.

    Raises
    ------
    FileExistsError
        As :func:`check_output`; also when files appeared in the folder meanwhile, which stay: the message says where the report
        is.
    ValueError
        As :func:`check_output`, or if nothing can be written there.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> results = Path(tempfile.mkdtemp()) / "results"
    >>> with whole_folder(results, overwrite=False) as folder:
    ...     written = (folder / "report.md").write_text("done")
    ...     results.exists() and any(results.iterdir())
    False
    >>> [file.name for file in results.iterdir()]
    ['report.md']
    """
    check_output(folder, overwrite=overwrite, source=source)
    folder = folder.resolve()
    unfinished = (folder if _is_fixed(folder) else folder.parent) / f".{folder.name}.unfinished-{uuid4().hex[:12]}"
    with heeding_sigterm():
        try:
            _make(unfinished, folder)
            try:
                yield unfinished
            except Exception:
                if (unfinished / SUMMARY).exists():
                    _place(unfinished, folder, overwrite=overwrite, source=source)
                raise
            _place(unfinished, folder, overwrite=overwrite, source=source)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def check_space(folder: Path, needed: int) -> None:
    """Raise unless so many bytes are free where a folder lies.

    Raises
    ------
    ValueError
        Otherwise.

    Examples
    --------
    >>> check_space(Path(), 1)
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        msg = f"The results take about {needed / 1e9:.2g} GB, but only {free / 1e9:.2g} are free for `--out`. Make room first."
        raise ValueError(msg)


def _entries(folder: Path) -> list[str]:
    if not folder.is_dir():
        return []
    ours = f".{folder.name}.unfinished-"  # of a run that was killed, in a mount point
    return sorted(entry.name for entry in folder.iterdir() if entry.name not in NOT_FILES and not entry.name.startswith(ours))


def _foreign(folder: Path) -> list[str]:
    """What no report wrote; all, if the folder is none."""
    entries = _entries(folder)
    if entries and not _is_summary(folder / SUMMARY):
        return entries
    models = [f"{MODEL}/{name}" for name in _entries(folder / MODEL) if name != "model.pt"]
    return [name for name in entries if name not in WRITTEN] + models


def _is_summary(file: Path) -> bool:
    try:
        summary = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and "dbdiffusion" in (summary.get("versions") or {})


def _is_fixed(folder: Path) -> bool:
    """Whether a folder cannot be replaced by another: a mount point, or one whose parent cannot be written."""
    return folder.is_dir() and (folder.is_mount() or not os.access(folder.parent, os.W_OK))


def _make(unfinished: Path, folder: Path) -> None:
    try:
        unfinished.mkdir(parents=True)
        (unfinished / SUMMARY).write_text("")  # some file systems tell only then
        (unfinished / SUMMARY).unlink()
    except OSError as error:
        msg = f"Nothing can be written to {str(folder)!r}: {error.strerror}. Name another folder with `--out`."
        raise ValueError(msg) from error


def _place(unfinished: Path, folder: Path, *, overwrite: bool, source: Path | None) -> None:
    """Put the unfinished folder in its place, or beside it if the place was taken meanwhile."""
    try:
        check_output(folder, overwrite=overwrite, source=source)
        _replace(unfinished, folder)
    except (OSError, ValueError) as error:
        other = next(path for i in range(1, 1000) if not (path := unfinished.with_name(f"{folder.name}-{i}")).exists())
        unfinished.rename(other)
        msg = f"The report is in {str(other)!r}, since its place was taken while the job ran: {error}"
        raise FileExistsError(msg) from error


def _replace(unfinished: Path, folder: Path) -> None:
    """Old files aside, new ones in; whatever breaks it off, it is done or undone."""
    replaced = unfinished.with_name(f"{unfinished.name}.replaced")
    if _is_fixed(folder):
        old = [(folder / name, replaced / name) for name in _entries(folder)]
        new = [(entry, folder / entry.name) for entry in sorted(unfinished.iterdir(), key=lambda entry: entry.name == REPORT)]
        replaced.mkdir()
    else:
        old, new = [(folder, replaced)] if folder.exists() else [], [(unfinished, folder)]
    try:
        for before, after in (*old, *new):
            before.rename(after)
    except BaseException:
        for before, after in (*reversed(new), *reversed(old)):
            if after.exists() and not before.exists():
                after.rename(before)
        with contextlib.suppress(OSError):
            replaced.rmdir()
        raise
    shutil.rmtree(replaced, ignore_errors=True)
