"""Options of the constructor and of trainings as plain values, refused in words before any work."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dbdiffusion._words import real_number, whole_number

SIZES = {  # arguments of the constructor: least, and most so that a mistyped number does not fill the memory
    "n_hidden": (1, 65_536),
    "n_latent": (1, 4_096),
    "n_layers": (1, 128),
    "n_embedding": (1, 64),
    "n_diffusion_hidden": (1, 65_536),
    "n_diffusion_blocks": (1, 1_024),
    "n_folds": (2, 1_024),
}
OTHERS_SAY = ("epochs", "n_epochs", "num_epochs")  # for `max_epochs`
SHARES = ("train_size", "validation_size")


def check_sizes_of_model(dropout_rate: Any, **sizes: Any) -> dict[str, Any]:
    """Sizes of a model and its dropout rate, as plain numbers.

    Raises
    ------
    ValueError
        If one is none, or out of range.

    Examples
    --------
    >>> check_sizes_of_model(0.1, n_hidden=16)
    {'n_hidden': 16, 'dropout_rate': 0.1}
    """
    plain: dict[str, Any] = {name: whole_number(name, value, *SIZES[name]) for name, value in sizes.items()}
    rate = real_number("dropout_rate", dropout_rate, 0, 1)
    if rate == 1:
        msg = f"`dropout_rate` must be below 1, got {dropout_rate!r}: nothing would be left."
        raise ValueError(msg)
    return {**plain, "dropout_rate": rate}


def training_options(
    max_epochs: Any = None, batch_size: Any = 1, plan_kwargs: Any = None, named: str = "max_epochs", **others: Any
) -> tuple[int | None, int]:
    """Epochs (None: to be chosen) and cells a minibatch, as plain numbers, after a look at all other options of a training.

    Parameters
    ----------
    max_epochs, batch_size, plan_kwargs, **others
        As of :meth:`DBDiffusion.train_vae` or :meth:`DBDiffusion.train_diffusion`.
    named
        How the first is called where it is asked for.

    Raises
    ------
    ValueError
        If epochs or cells are not at least 1, a share of cells is none, or any number is NaN.
    TypeError
        If ``plan_kwargs`` is no dictionary, or epochs go by a name of other packages.

    Examples
    --------
    >>> training_options(5.0, 64, {"lr": 1e-3})
    (5, 64)
    """
    if plan_kwargs is not None and not isinstance(plan_kwargs, Mapping):
        msg = f"`plan_kwargs` must be a dictionary of options of the training plan, got {plan_kwargs!r}."
        raise TypeError(msg)
    for name in OTHERS_SAY:
        if name in others:
            msg = (
                f"`{name}` is no option of the training: the epochs of the VAE are `max_epochs`, those of the diffusion "
                "`max_epochs_diffusion`."
            )
            raise TypeError(msg)
    for name, value in {**others, **(plan_kwargs or {})}.items():
        if isinstance(value, float) and math.isnan(value):
            msg = f"`{name}` must be a number, got {value!r}."
            raise ValueError(msg)
    for name in SHARES:
        if others.get(name) is not None:
            real_number(name, others[name], 0, 1)
    return (None if max_epochs is None else whole_number(named, max_epochs, 1)), whole_number("batch_size", batch_size, 1)
