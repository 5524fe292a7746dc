"""What is said to a user, and options read as plain values or refused in words: one path for every door."""

from __future__ import annotations

import math
import operator
import sys
import warnings
from typing import TYPE_CHECKING, Any

from dbdiffusion.screen import meant

if TYPE_CHECKING:
    from collections.abc import Sequence


class ScreenWarning(UserWarning):
    """Something in a screen that may be meant otherwise than it is read, or cells that take no part.

    Examples
    --------
    >>> import warnings
    >>> warnings.simplefilter("ignore", ScreenWarning)  # once everything it says is known
    """


def say(message: str, category: type[UserWarning] = ScreenWarning) -> None:
    """Warn at the line of whoever called this package."""
    level, frame = 1, sys._getframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] == "dbdiffusion":
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    warnings.warn(message, category, stacklevel=level)


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


def known_word(what: str, given: str | None, words: Sequence[str]) -> str:
    """One of some words that a user chose, so that close ones may be meant.

    Raises
    ------
    ValueError
        If it is none of them; the message names them and close ones.

    Examples
    --------
    >>> known_word("batch", "lane 1", ["lane 1", "lane 2"])
    'lane 1'
    """
    if given is None or given not in words:
        msg = f"`{what}` must be one of {list(words[:10])}, got {given!r}.{meant(str(given), words)}"
        raise ValueError(msg)
    return given


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
