"""Effects of cells measured after a prediction, contrasted with the control cells of their own experiment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from dbdiffusion.predict._answers import observed_estimate
from dbdiffusion.screen import NameRule, contrast_within_batches, grouped_moments, log1p_cp10k, meant

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
        If there are no control cells.

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
    labels = [name if name == control else rule.clean(name) for name in adata.obs[perturbation_key].astype(str)]
    names = sorted(set(labels) - {control})
    if control not in labels or not names:
        msg = f"The new cells must hold control cells ({control!r}) and a perturbation, got {sorted(set(labels))[:5]}."
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
        }
    )


def _chunks(counts: Any, adata: Any, size_factor_key: str | None, group: np.ndarray) -> Any:
    for start in range(0, counts.shape[0], CHUNK):
        rows = slice(start, start + CHUNK)
        block = sp.csr_matrix(counts[rows])
        library = (
            np.asarray(block.sum(axis=1)).ravel()
            if size_factor_key is None
            else adata.obs[size_factor_key].to_numpy(dtype=float)[rows]
        )
        yield log1p_cp10k(block, library), group[rows]
