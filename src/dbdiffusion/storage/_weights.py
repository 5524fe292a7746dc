"""Weights and plain attributes as safetensors and JSON: files that run no code when they are read."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import safetensors
import torch
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from scvi.module import VAE

from dbdiffusion.storage._files import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping


# What files of ``export_weights`` declare, checked before anything is built of it: they may come from anybody.


_NONE = type(None)
ATTRIBUTES: dict[str, tuple[type, ...]] = {
    "init_params_": (dict,),
    "registry_": (dict,),
    "is_trained_": (bool,),
    "is_vae_trained_": (bool,),
    "is_diffusion_trained_": (bool,),
    "history_": (dict, _NONE),
    "train_indices_": (np.ndarray, list, _NONE),
    "validation_indices_": (np.ndarray, list, _NONE),
    "test_indices_": (np.ndarray, list, _NONE),
    "screen_": (dict, _NONE),
    "reference_screen_": (dict, _NONE),
    "context_screens_": (dict, _NONE),
    "cross_fit_": (dict, _NONE),
    "added_perturbations_": (list,),
    "added_vectors_": (pd.DataFrame, _NONE),
    "own_predictors_": (dict, _NONE),
    "strategy_": (str,),
    "run_name_": (str,),
    "run_id_": (str,),
    "get_normalized_function_name_": (str,),
}
CALLED = ("get_normalized_function_name_", "get_normalized_expression")  # scvi-tools calls the method that it names
REPEATED = ("n_layers", "n_diffusion_blocks")  # arguments that say how often something is built
FOLDS = "folds."  # weights that earlier versions kept in every module, see the module's `load_state_dict`
UNBUILDABLE = (KeyError, TypeError, AttributeError, ValueError, RuntimeError, IndexError, OverflowError)


def check_attributes(attributes: Any, where: str) -> dict[str, Any]:
    """The attributes of a model: none but those that it has, of the types that it gives them.

    Raises
    ------
    ValueError
        Otherwise.

    Examples
    --------
    >>> check_attributes({"init_params_": {}, "registry_": {}, "module": "x"}, "model.json")
    Traceback (most recent call last):
    ValueError: model.json sets ['module'], no attributes of a saved model. Was it changed, or is it of a later version?
    """
    if not isinstance(attributes, dict) or not {"init_params_", "registry_"} <= set(attributes):
        msg = f"{where} must hold a model's attributes, `init_params_` and `registry_` among them."
        raise ValueError(msg)
    foreign = sorted(set(attributes) - set(ATTRIBUTES))
    if foreign:
        msg = f"{where} sets {foreign[:5]}, no attributes of a saved model. Was it changed, or is it of a later version?"
        raise ValueError(msg)
    odd = [name for name, value in attributes.items() if not isinstance(value, ATTRIBUTES[name])]
    odd += [name for name, value in attributes.items() if name == CALLED[0] and value != CALLED[1]]
    if odd:
        msg = f"{where} sets {odd[0]!r} to a {type(attributes[odd[0]]).__name__} that no saved model has there."
        raise ValueError(msg)
    return attributes


def check_arguments(cls: type, saved: dict[str, Any], state: Mapping[str, np.ndarray], where: str) -> dict[str, Any]:
    """Arguments of the constructor, which knows them all, and no number larger than the weights (name to array) allow.

    Raises
    ------
    ValueError
        Otherwise.

    Examples
    --------
    >>> from dbdiffusion import DBDiffusion
    >>> check_arguments(DBDiffusion, {"non_kwargs": {"n_latents": 5}, "kwargs": {}}, {}, "model.json")
    Traceback (most recent call last):
    ValueError: model.json names ['n_latents'], no arguments of a DBDiffusion. Was it changed, or is it of a later version?
    """
    try:
        groups = [saved["non_kwargs"], *saved["kwargs"].values()]
        arguments = {name: value for group in groups for name, value in group.items()}
    except (KeyError, AttributeError, TypeError) as error:
        msg = f"{where} must hold the constructor's arguments, `non_kwargs` and `kwargs`."
        raise ValueError(msg) from error
    known = {*inspect.signature(cls).parameters, *inspect.signature(VAE).parameters} - {"adata", "registry", "kwargs"}
    foreign = sorted(set(arguments) - known)
    if foreign:
        msg = f"{where} names {foreign[:5]}, no arguments of a {cls.__name__}. Was it changed, or is it of a later version?"
        raise ValueError(msg)
    most = sum(array.size for array in state.values())
    for name, value in arguments.items():
        limit = len(state) if name in REPEATED else most
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > limit:
            raise ValueError(_too_large(where, f"`{name}` of {value}", most))
    return arguments


def check_sizes(
    cls: type, registry: dict[str, Any], arguments: dict[str, Any], state: Mapping[str, np.ndarray], where: str
) -> None:
    """Raise unless the weights (name to array) are those of the model that is declared; it is drawn up without memory.

    Raises
    ------
    ValueError
        Otherwise.

    Examples
    --------
    >>> from dbdiffusion import DBDiffusion
    >>> check_sizes(DBDiffusion, {}, {}, {}, "model.json")
    Traceback (most recent call last):
    ValueError: model.json declares no model that can be built: ...
    """
    try:
        with torch.device("meta"):
            drawn_up = cls(registry=registry, **arguments).module.state_dict()
    except UNBUILDABLE as error:
        msg = f"{where} declares no model that can be built: {type(error).__name__}: {error}"
        raise ValueError(msg) from error
    declared = {name: tuple(value.shape) for name, value in drawn_up.items()}
    brought = {name: array.shape for name, array in state.items() if not name.startswith(FOLDS)}
    if declared != brought:
        name = sorted(set(declared.items()) ^ set(brought.items()))[0][0]
        raise ValueError(_too_large(where, f"{name!r} of shape {declared.get(name)}", brought.get(name, "nothing")))


def _too_large(where: str, declared: str, brought: object) -> str:
    return f"{where} declares {declared}, but the file beside it holds {brought}. Were files of two models mixed?"


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
