"""From counts of guides to the perturbation of every cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

if TYPE_CHECKING:
    from anndata import AnnData


def call_perturbations(
    guides: AnnData,
    target_key: str | None = "target",
    control: str = "control",
    combination_sep: str = "+",
    layer: str | None = None,
    min_counts: int = 3,
    min_share: float = 0.1,
) -> pd.Series:
    """Name the perturbation of every cell by its guides.

    1. A guide is called in a cell if it has at least ``min_counts`` counts there and at least ``min_share`` of all the
       counts of guides in that cell (the share removes what leaks in from other cells).
    2. Guides of one target count once. A guide that targets control is silent beside one that targets something.
    3. The cell gets its targets in alphabetical order, joined by the separator: ``"A"``, ``"A+B"``; control if all its
       guides target control; NaN if no guide was called.

    Parameters
    ----------
    guides
        Cells by guides, counts.
    target_key
        Column of ``var`` that names the target of a guide; None means that the guides' own names are targets.
    control
        Target of non-targeting guides.
    combination_sep
        Joins targets.
    layer
        With the counts, if they are not in X.
    min_counts, min_share
        What a guide needs to be called.

    Returns
    -------
    Series
        Index = cells, named ``perturbation``.

    Raises
    ------
    KeyError
        If the column or the layer is missing.
    ValueError
        If counts are negative or not finite, or 0 and 1 where more are asked for, a target is missing or holds the separator,
        or a threshold is out of range.

    Examples
    --------
    >>> import anndata as ad, pandas as pd
    >>> guides = ad.AnnData(
    ...     np.array([[9.0, 0.0, 0.0], [0.0, 8.0, 7.0], [5.0, 0.0, 6.0], [0.0, 1.0, 0.0]]),
    ...     obs=pd.DataFrame(index=list("abcd")),
    ...     var=pd.DataFrame({"target": ["control", "MYC", "GATA1"]}, index=["nt", "m", "g"]),
    ... )
    >>> call_perturbations(guides).tolist()
    ['control', 'GATA1+MYC', 'GATA1', nan]
    """
    _check_thresholds(min_counts, min_share)
    targets = _targets(guides, target_key, combination_sep)
    counts = _counts(guides, layer)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    called = counts.tocoo()
    _check_reached(called.data, min_counts)
    kept = (called.data >= min_counts) & (called.data >= min_share * totals[called.row])
    names: list[set[str]] = [set() for _ in range(guides.n_obs)]
    for cell, guide in zip(called.row[kept], called.col[kept], strict=True):
        names[cell].add(targets[guide])
    calls = [combination_sep.join(sorted(found - {control}) or sorted(found)) if found else np.nan for found in names]
    return pd.Series(calls, index=guides.obs_names, dtype=object, name="perturbation")


def _targets(guides: AnnData, target_key: str | None, separator: str) -> list[str]:
    if target_key is None:
        column = pd.Series(guides.var_names, index=guides.var_names)
    elif target_key in guides.var:
        column = guides.var[target_key]
    else:
        msg = (
            f"`guide_target_key` {target_key!r} is not in the guides' var, which has {sorted(map(str, guides.var.columns))}. "
            "Name the column with the target of every guide, or give None where the guides' names are targets."
        )
        raise KeyError(msg)
    missing = column.isna() | (column.astype(str).str.strip() == "")
    if missing.any():
        msg = f"Every guide needs a target, but {list(column.index[missing][:3])} have none. Non-targeting ones target control."
        raise ValueError(msg)
    targets = [str(target) for target in column]
    joined = [target for target in targets if separator in target]
    if joined:
        msg = f"Target {joined[0]!r} holds the separator {separator!r} of combinations; choose another `combination_sep`."
        raise ValueError(msg)
    return targets


def _counts(guides: AnnData, layer: str | None) -> sp.csr_matrix:
    if layer is not None and layer not in guides.layers:
        known = sorted(name for name in guides.layers if name is not None)
        msg = f"`guide_layer` {layer!r} is not in the guides' layers, which has {known}."
        raise KeyError(msg)
    values = guides.X if layer is None else guides.layers[layer]
    if values is None or (not np.issubdtype(values.dtype, np.number) and values.dtype != bool):
        where = "X" if layer is None else f"layer {layer!r}"
        msg = f"The guides' {where} must hold numbers, got {getattr(values, 'dtype', None)}."
        raise ValueError(msg)
    counts = sp.csr_matrix(values, dtype=np.float64)
    counts.sum_duplicates()
    if not np.isfinite(counts.data).all() or (counts.data < 0).any():
        msg = "Counts of guides must be finite and not negative."
        raise ValueError(msg)
    return counts


def _check_reached(values: np.ndarray, min_counts: int) -> None:
    if min_counts > 1 and values.max(initial=0) == 1:
        msg = (
            f"The guides are a matrix of 0 and 1, which assigns guides to cells, so none has `min_guide_counts` {min_counts} "
            "counts. Give `min_guide_counts=1` (in `call_perturbations`, `min_counts=1`)."
        )
        raise ValueError(msg)


def _check_thresholds(min_counts: int, min_share: float) -> None:
    for name, value in (("min_guide_counts", min_counts), ("min_guide_share", min_share)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            msg = f"`{name}` must be a number, got {value!r} ({type(value).__name__})."
            raise TypeError(msg)
    if not min_counts >= 1:
        msg = f"`min_guide_counts` must be at least 1, got {min_counts!r}."
        raise ValueError(msg)
    if not 0 <= min_share <= 1:
        msg = f"`min_guide_share` must lie between 0 and 1, got {min_share!r}."
        raise ValueError(msg)
