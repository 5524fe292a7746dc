"""Effects of cells that were measured after a prediction, contrasted with the control cells of their own experiment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from dbdiffusion.predict._answers import observed_estimate
from dbdiffusion.screen import (
    NameRule,
    canonical_names,
    contrast_within_batches,
    counts_fault,
    depth_per_library,
    grouped_moments,
    log1p_cp10k,
    meant,
)

CHUNK = 20_000


def effects_of_cells(
    adata: Any,
    rule: NameRule,
    perturbation_key: str = "perturbation",
    control: str = "control",
    batch_key: str | None = None,
    layer: str | None = None,
    size_factor_key: str | None = None,
) -> pd.DataFrame:
    """Observed effects of every perturbation in an AnnData of counts, as one table.

    Raises
    ------
    KeyError
        If a column or layer is missing.
    ValueError
        If there are fewer than two control cells, or values that are no counts.

    Examples
    --------
    >>> table = effects_of_cells(adata, NameRule(), batch_key="batch")
    >>> bool(np.allclose(table["effect"], model.observed_effects()["effect"], atol=1e-5))
    True
    """
    for key in (perturbation_key, batch_key, size_factor_key):
        if key is not None and key not in adata.obs:
            msg = f"The new cells have no column {key!r} in `obs`.{meant(key, map(str, adata.obs.columns))}"
            raise KeyError(msg)
    if layer is not None and layer not in adata.layers:
        msg = f"The new cells have no layer {layer!r}.{meant(layer, map(str, adata.layers))}"
        raise KeyError(msg)
    for key in (perturbation_key, batch_key):
        if key is not None and adata.obs[key].isna().any():
            n_missing = int(adata.obs[key].isna().sum())
            msg = f"All new cells must have a value in obs[{key!r}], but {n_missing} have none. Fill it in or drop these cells."
            raise ValueError(msg)
    written = adata.obs[perturbation_key].astype(str)
    labels = written.map(canonical_names(written.value_counts().to_dict(), rule)).tolist()
    names = sorted(set(labels) - {control})
    if control not in labels or not names:
        msg = f"The new cells must hold control cells ({control!r}) and a perturbation, got {sorted(set(labels))[:5]}."
        raise ValueError(msg)
    if labels.count(control) < 2:
        msg = "The new cells hold one control cell, which does not tell how much control cells differ. At least 2 are needed."
        raise ValueError(msg)
    code = pd.Index([control, *names]).get_indexer(labels)
    batch = np.zeros(adata.n_obs, dtype=int) if batch_key is None else pd.factorize(adata.obs[batch_key])[0]
    n_batches = int(batch.max()) + 1
    counts = adata.X if layer is None else adata.layers[layer]
    moments = grouped_moments(
        _chunks(counts, adata, size_factor_key, code * n_batches + batch), (len(names) + 1) * n_batches, adata.n_vars
    )
    observed = contrast_within_batches(moments, n_batches, control=0).subset(np.arange(1, len(names) + 1))
    estimate = observed_estimate(observed)
    return pd.DataFrame(
        {
            "target": np.repeat(names, adata.n_vars),
            "variable": np.tile(adata.var_names.astype(str), len(names)),
            "effect": estimate.effect.ravel(),
            "se": estimate.se.ravel(),
            "mean_control": observed.mean_control.ravel(),
        }
    )


def _chunks(counts: Any, adata: Any, size_factor_key: str | None, group: np.ndarray) -> Any:
    blocks = [slice(start, start + CHUNK) for start in range(0, counts.shape[0], CHUNK)]
    depth = None if size_factor_key is None else _depth(counts, blocks, adata.obs[size_factor_key], size_factor_key)
    for rows in blocks:
        block = sp.csr_matrix(counts[rows])
        totals = _checked_totals(block) if depth is None else depth[rows]
        yield log1p_cp10k(block, totals), np.where(totals > 0, group[rows], -1)  # cells without counts take no part


def _depth(counts: Any, blocks: list[slice], column: pd.Series, name: str) -> np.ndarray:
    """Total counts that size factors stand for: relative ones need the totals of all cells first."""
    factors = column.to_numpy(dtype=float)
    if not (np.isfinite(factors) & (factors > 0)).all():
        msg = f"Size factors must be finite and above 0; obs[{name!r}] of the new cells holds others."
        raise ValueError(msg)
    totals = np.concatenate([_checked_totals(sp.csr_matrix(counts[rows])) for rows in blocks])
    return factors * depth_per_library(factors, totals)


def _checked_totals(block: sp.csr_matrix) -> np.ndarray:
    fault = counts_fault(block.data)
    if fault is not None:
        msg = (
            f"The new cells must be raw counts, as at set-up, but some are {fault}. Name the layer that holds the counts, "
            "`compare(..., layer=...)`."
        )
        raise ValueError(msg)
    return np.asarray(block.sum(axis=1, dtype=np.float64)).ravel()
