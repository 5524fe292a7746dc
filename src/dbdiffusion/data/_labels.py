"""The column that names the perturbation of every cell, read once and in one way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion.data._covariates import column_of
from dbdiffusion.screen import NameRule, canonical_names, close_names

if TYPE_CHECKING:
    from collections.abc import Sequence


def labels_in(obs: pd.DataFrame, perturbation_key: str) -> pd.Series:
    """Labels (N,) as text, as they are written.

    Raises
    ------
    KeyError
        If the column is missing.
    ValueError
        If it is there twice, or has missing or empty values.

    Examples
    --------
    >>> labels_in(adata.obs, "perturbation").nunique() == 1 + len(model.perturbation_names)
    True
    """
    column = column_of(obs, "perturbation_key", perturbation_key)
    if column.isna().any() or (column.astype(str).str.strip() == "").any():
        msg = (
            f"adata.obs[{perturbation_key!r}] must name a perturbation for every cell, but some are missing or empty. "
            "Drop those cells, or call them what they are."
        )
        raise ValueError(msg)
    return column.astype(str).astype(object)


def canonical_labels(labels: pd.Series, rule: NameRule, known: Sequence[str] = ()) -> pd.Series:
    """The one name (N,) of the perturbation of every cell.

    Parameters
    ----------
    labels
        As they are written.
    rule
        How they are read.
    known
        Names that a model has already; what means the same gets them.
    """
    names = canonical_names(labels.value_counts().to_dict(), rule)
    by_key = {rule.key(name): name for name in reversed(known)}
    exact = set(known)
    return labels.map({label: label if label in exact else by_key.get(rule.key(label), name) for label, name in names.items()})


def perturbations_in(obs: pd.DataFrame, perturbation_key: str, rule: NameRule) -> pd.Series:
    """The one name (N,) of the perturbation of every cell of a screen.

    Raises
    ------
    KeyError, ValueError
        As :func:`labels_in` does; and where control is absent or has fewer than two cells, or there is no perturbation
        beside it.

    Examples
    --------
    >>> import pandas as pd
    >>> obs = pd.DataFrame({"perturbation": ["control", "control", "B+A", "A+B", "A+control"]})
    >>> perturbations_in(obs, "perturbation", NameRule()).tolist()
    ['control', 'control', 'A+B', 'A+B', 'A']
    """
    names = canonical_labels(labels_in(obs, perturbation_key), rule)
    sizes = names.value_counts()
    if rule.control not in sizes.index:
        close = close_names(rule.control, sizes.index) or list(sizes.index[:3])
        msg = (
            f"`control` {rule.control!r} is not in adata.obs[{perturbation_key!r}]; it has {close!r}, among others. "
            "Name the unperturbed cells: `setup_anndata(adata, control=...)`."
        )
        raise ValueError(msg)
    if sizes[rule.control] < 2:
        msg = f"At least 2 control cells are needed for a variance, got {sizes[rule.control]} of {rule.control!r}."
        raise ValueError(msg)
    if len(sizes) < 2:
        msg = f"At least one perturbation beside control {rule.control!r} is needed, but every cell is control."
        raise ValueError(msg)
    return names


def codes_of(names: pd.Series, categories: Sequence[str]) -> np.ndarray:
    """Positions (N,) of names among categories."""
    return pd.Index(categories, dtype=object).get_indexer(names.to_numpy(dtype=object)).astype(np.int64)
