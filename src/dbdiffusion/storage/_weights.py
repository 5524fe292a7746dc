"""Weights and plain attributes as safetensors and JSON: files that run no code when they are read."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from dbdiffusion.storage._files import write_whole

DESCRIPTION = "model.json"
FORMAT = "dbdiffusion-weights-2"
UNSIGNED = "dbdiffusion-weights-1"  # of before: the description has no checksum of its own
OWN_NAME = re.compile(r"weights-[0-9a-f]{16}\.safetensors")


def write_weights(
    folder: Path, plain: Any, arrays: dict[str, np.ndarray], versions: dict[str, str], before: str | None
) -> None:
    """Write arrays, and the description that names them, whole: a run that is killed leaves the old export or the new one.

    Parameters
    ----------
    folder
        Made if it is not there.
    plain
        Attributes as :func:`to_plain` gives them.
    arrays
        All that they name, and the weights.
    versions
        Of the packages that wrote them.
    before
        Name of the weights that are replaced, see :func:`replaceable`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "export"
    >>> arrays = {"weight": np.arange(3.0)}
    >>> write_weights(folder, {"dict": {}}, arrays, {"dbdiffusion": "0.2.0"}, before=None)
    >>> read_arrays(folder, read_description(folder))["weight"].tolist()
    [0.0, 1.0, 2.0]
    """
    weights = save_arrays({name: np.array(array, order="C") for name, array in arrays.items()})
    checksum = hashlib.sha256(weights).hexdigest()
    weights_file = f"weights-{checksum[:16]}.safetensors"
    description = {"format": FORMAT, "weights": weights_file, "sha256": checksum, "versions": versions, "attributes": plain}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / weights_file, weights)
    write_whole(folder / DESCRIPTION, json.dumps({**description, "checksum": _signature(description)}, indent=1).encode())
    if before not in (None, weights_file):
        (folder / str(before)).unlink(missing_ok=True)


def replaceable(folder: Path, *, overwrite: bool) -> str | None:
    """Name of the weights that the model in a folder leaves when it is replaced; None if there is no model.

    Examples
    --------
    >>> replaceable(Path("no_such_folder"), overwrite=False) is None
    True
    """
    file = folder / DESCRIPTION
    if folder.is_file():
        msg = f"{str(folder)!r} is a file; name a folder to export into."
        raise FileExistsError(msg)
    if not file.exists():
        return None
    if not overwrite:
        msg = f"{str(folder)!r} holds a model; choose another folder, or replace it with `overwrite=True`."
        raise FileExistsError(msg)
    try:
        before = json.loads(file.read_bytes())
    except ValueError:
        before = None
    if not isinstance(before, dict) or before.get("format") not in (FORMAT, UNSIGNED):
        msg = f"{str(file)!r} was not written by `export_weights`, or is damaged; choose another folder, or remove it."
        raise FileExistsError(msg)
    return before["weights"] if OWN_NAME.fullmatch(str(before.get("weights"))) else None


def _signature(description: dict[str, Any]) -> str:
    """Checksum of what a description says, however it is laid out."""
    said = {name: value for name, value in description.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def read_description(folder: Path) -> dict[str, Any]:
    """What an export says of itself, if it is whole.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is damaged, or of another format.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "export"
    >>> arrays = {"weight": np.arange(3.0)}
    >>> write_weights(folder, {"dict": {}}, arrays, {"dbdiffusion": "0.2.0"}, before=None)
    >>> read_description(folder)["versions"]
    {'dbdiffusion': '0.2.0'}
    """
    file = folder / DESCRIPTION
    if not file.is_file():
        msg = f"{str(file)!r} does not exist; name a folder that `export_weights` wrote."
        raise FileNotFoundError(msg)
    try:
        description = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        msg = f"{str(file)!r} is not whole JSON: {error}."
        raise ValueError(msg) from error
    if not isinstance(description, dict) or description.get("format") not in (FORMAT, UNSIGNED):
        msg = f"{str(file)!r} must be of the format {FORMAT!r}; was it written by another version, or by other software?"
        raise ValueError(msg)
    if description["format"] == FORMAT and description.get("checksum") != _signature(description):
        msg = f"{str(file)!r} was changed after it was written: its checksum is another. Export the model anew."
        raise ValueError(msg)
    return description


def read_arrays(folder: Path, description: dict[str, Any]) -> dict[str, np.ndarray]:
    """The arrays that a description names, if they are those that were written with it.

    Raises
    ------
    FileNotFoundError
        If they are not beside it.
    ValueError
        If they were changed.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "export"
    >>> arrays = {"weight": np.arange(3.0)}
    >>> write_weights(folder, {"dict": {}}, arrays, {"dbdiffusion": "0.2.0"}, before=None)
    >>> [name for name in read_arrays(folder, read_description(folder))]
    ['weight']
    """
    name = str(description.get("weights"))
    if Path(name).name != name:
        msg = f"{DESCRIPTION} names the weights {name!r}, but they must lie beside it."
        raise ValueError(msg)
    file = folder / name
    if not file.is_file():
        msg = f"{str(file)!r} does not exist, though {DESCRIPTION} names it. Copy the whole folder."
        raise FileNotFoundError(msg)
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != description.get("sha256"):
        msg = f"{str(file)!r} is cut off or was changed: its checksum is not the one in {DESCRIPTION}."
        raise ValueError(msg)
    try:
        return load_arrays(content)
    except safetensors.SafetensorError as error:
        msg = f"{str(file)!r} is no safetensors file: {error}."
        raise ValueError(msg) from error
