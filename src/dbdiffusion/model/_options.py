"""Options as plain numbers, refused in words before any work: one path for every method, the constructor and the shell."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

SIZES = {  # arguments of the constructor: least, and most so that a mistyped number does not fill the memory
    "n_hidden": (1, 65_536),
    "n_latent": (1, 4_096),
    "n_layers": (1, 128),
    "n_embedding": (1, 64),
    "n_diffusion_hidden": (1, 65_536),
    "n_diffusion_blocks": (1, 1_024),
    "n_folds": (2, 1_024),
}
SHARES = ("train_size", "validation_size")


def whole_number(name: str, value: Any, least: int = 0, most: int | None = None) -> int:
    """A whole number of any type as Python's own.

    Raises
    ------
    ValueError
        If it is none, or out of range.

    Examples
    --------
    >>> import numpy as np
    >>> whole_number("seed", np.int64(3)), whole_number("n_cells", 1e3)
    (3, 1000)
    >>> whole_number("n_cells", 0, least=1)
    Traceback (most recent call last):
    ValueError: `n_cells` must be a whole number, at least 1, got 0.
    """
    number = _as_whole(value)
    if number is None or number < least or (most is not None and number > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        msg = f"`{name}` must be a whole number, {limits}, got {value!r}."
        raise ValueError(msg)
    return number


def real_number(name: str, value: Any, least: float = -math.inf, most: float = math.inf, *, strictly: bool = False) -> float:
    """A finite number of any type as Python's own, in a closed interval or, strictly, in an open one.

    Raises
    ------
    ValueError
        If it is none, or out of range.

    Examples
    --------
    >>> real_number("confidence", 0.95, 0, 1, strictly=True)
    0.95
    >>> real_number("guidance_scale", float("nan"), 0, 100)
    Traceback (most recent call last):
    ValueError: `guidance_scale` must be a finite number from 0 to 100, got nan.
    """
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    inside = least < number < most if strictly else least <= number <= most
    if not math.isfinite(number) or not inside:
        limits = f" strictly between {least:g} and {most:g}" if strictly else _limits(least, most)
        msg = f"`{name}` must be a finite number{limits}, got {value!r}."
        raise ValueError(msg)
    return number


def word(name: str, value: Any, words: tuple[str, ...]) -> str:
    """One of some words.

    Raises
    ------
    ValueError
        If it is none of them.

    Examples
    --------
    >>> word("fdr", "all", ("target", "all"))
    'all'
    """
    if not isinstance(value, str) or value not in words:
        msg = f"`{name}` must be one of {list(words)}, got {value!r}."
        raise ValueError(msg)
    return str(value)


def choice(name: str, value: Any) -> bool:
    """True or False, and nothing that is merely taken for it, as the text ``"no"`` would be.

    Raises
    ------
    ValueError
        For anything else.

    Examples
    --------
    >>> choice("shrink", True)
    True
    """
    if not (value is True or value is False or type(value).__name__ in ("bool_", "bool")):
        msg = f"`{name}` must be True or False, got {value!r}."
        raise ValueError(msg)
    return bool(value)


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
    max_epochs: Any = None, batch_size: Any = 1, plan_kwargs: Any = None, epochs: str = "max_epochs", **others: Any
) -> tuple[int | None, int]:
    """Epochs (None: to be chosen) and cells a minibatch, as plain numbers, after a look at all other options of a training.

    Parameters
    ----------
    max_epochs, batch_size, plan_kwargs, **others
        As of :meth:`DBDiffusion.train_vae` or :meth:`DBDiffusion.train_diffusion`.
    epochs
        How the first is called where it is asked for.

    Raises
    ------
    ValueError
        If epochs or cells are not at least 1, a share of cells is none, or any number is NaN.
    TypeError
        If ``plan_kwargs`` is no dictionary.

    Examples
    --------
    >>> training_options(5.0, 64, {"lr": 1e-3})
    (5, 64)
    """
    if plan_kwargs is not None and not isinstance(plan_kwargs, Mapping):
        msg = f"`plan_kwargs` must be a dictionary of options of the training plan, got {plan_kwargs!r}."
        raise TypeError(msg)
    for name, value in {**others, **(plan_kwargs or {})}.items():
        if isinstance(value, float) and math.isnan(value):
            msg = f"`{name}` must be a number, got {value!r}."
            raise ValueError(msg)
    for name in SHARES:
        if others.get(name) is not None:
            real_number(name, others[name], 0, 1)
    return (None if max_epochs is None else whole_number(epochs, max_epochs, 1)), whole_number("batch_size", batch_size, 1)


def _as_whole(value: Any) -> int | None:
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return None
    try:
        return operator.index(value)
    except TypeError:
        pass
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() else None


def _limits(least: float, most: float) -> str:
    if math.isinf(least) and math.isinf(most):
        return ""
    return f", at least {least:g}" if math.isinf(most) else f" from {least:g} to {most:g}"
