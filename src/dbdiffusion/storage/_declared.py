"""What files of ``export_weights`` declare, checked before anything is built of it: they may come from anybody."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scvi.module import VAE

if TYPE_CHECKING:
    from collections.abc import Mapping

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
