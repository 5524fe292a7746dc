"""A direction over genes, from what a user has: a gene, a set of genes, a signature, two groups of cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion.screen._names import meant, unwrapped

if TYPE_CHECKING:
    from collections.abc import Sequence


def direction_weights(direction: Any, genes: Sequence[str]) -> np.ndarray:
    """Weights (G,) of a direction; an effect along it is the sum of weights times effects.

    Parameters
    ----------
    direction
        One gene (its effect), a list of genes (their mean effect), or weights by gene as a Series or a dict (a signature, or
        the difference between two groups of cells, see :func:`direction_between`). Genes that are not measured are an error.
    genes
        (G,) names.

    Raises
    ------
    KeyError
        If a gene is not measured; close names are suggested.
    ValueError
        If there is no gene, no weight but zero, a gene twice, or a weight that is no finite number.

    Examples
    --------
    >>> direction_weights("B", ["A", "B", "C"]).tolist()
    [0.0, 1.0, 0.0]
    >>> direction_weights(["A", "C"], ["A", "B", "C"]).tolist()
    [0.5, 0.0, 0.5]
    >>> direction_weights({"A": 2.0, "B": -1.0}, ["A", "B", "C"]).tolist()
    [2.0, -1.0, 0.0]
    """
    if isinstance(direction, pd.DataFrame):
        msg = f"`direction` must be one column of weights, got a table of shape {direction.shape}: take one, `table[column]`."
        raise ValueError(msg)
    names, values = _names_and_weights(direction)
    if not names:
        msg = "`direction` names no gene: give a gene, a list of genes, or weights by gene."
        raise ValueError(msg)
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        msg = f"`direction` must name every gene once, got {twice[:5]} more than once: sum or drop them."
        raise ValueError(msg)
    columns = pd.Index(genes).get_indexer(names)
    absent = [name for name, column in zip(names, columns, strict=True) if column < 0]
    if absent:
        msg = (
            f"`direction` holds {len(absent)} of {len(names)} genes that are not measured, {absent[:5]}."
            f"{meant(absent[0], genes)} Leave them out, `weights[weights.index.isin(adata.var_names)]`."
        )
        raise KeyError(msg)
    unfit = [f"{name!r}: {value!r}" for name, value in zip(names, values.tolist(), strict=True) if not np.isfinite(value)]
    if unfit or not values.any():
        msg = f"The weights of `direction` must be finite numbers, not all zero, got {', '.join(unfit[:5]) or 'only zeros'}."
        raise ValueError(msg)
    weights = np.zeros(len(genes))
    weights[columns] = values
    return weights


def direction_between(first: np.ndarray, second: np.ndarray, genes: Sequence[str]) -> pd.Series:
    """Direction from one group of cells to another, scaled so that an effect of 1 along it goes all the way.

    The cells that tell the direction should not be the screen's control cells: their noise would be in both.

    Parameters
    ----------
    first, second
        (cells, G) log1p CP10K of the two groups, see :func:`log1p_cp10k`; dense or sparse.
    genes
        (G,) names.

    Raises
    ------
    ValueError
        If a group is empty, has not G columns, or the means are the same.

    Examples
    --------
    >>> direction_between(np.zeros((3, 2)), np.array([[3.0, 4.0]]), ["A", "B"]).round(2).tolist()
    [0.12, 0.16]
    """
    for name, values in (("first", first), ("second", second)):
        if values.ndim != 2 or values.shape[1] != len(genes) or not values.shape[0]:
            msg = f"`{name}` must hold cells with {len(genes)} genes each, got shape {values.shape}."
            raise ValueError(msg)
    difference = np.asarray(second.mean(axis=0)).ravel() - np.asarray(first.mean(axis=0)).ravel()
    length = float(np.linalg.norm(difference))
    if not (np.isfinite(length) and length > 0):
        msg = "The two groups of cells have the same mean, or one that is not finite, so there is no direction between them."
        raise ValueError(msg)
    return pd.Series(difference / length**2, index=pd.Index(list(genes)))


def _names_and_weights(direction: Any) -> tuple[list[str], np.ndarray]:
    direction = unwrapped(direction)
    if isinstance(direction, str):
        return [direction], np.ones(1)
    if isinstance(direction, pd.Series | Mapping):
        pairs = list(direction.items())
        wrong = [value for _, value in pairs if isinstance(value, bool | np.bool_) or not isinstance(value, Real | np.number)]
        if wrong:
            msg = f"The weights of `direction` must be numbers, got {wrong[0]!r}."
            raise ValueError(msg)
        return [str(name) for name, _ in pairs], np.array([value for _, value in pairs], dtype=float)
    names = list(direction) if isinstance(direction, Iterable) and not isinstance(direction, bytes) else [direction]
    if not all(isinstance(name, str) for name in names):
        msg = f"`direction` must be a gene, a list of genes, or weights by gene (a Series or a dict), got {direction!r:.200}."
        raise ValueError(msg)
    return [str(name) for name in names], np.full(len(names), 1 / max(len(names), 1))
