"""Effects of many targets as AnnData, in memory or streamed into a zarr store that a killed run takes up again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LAYERS = {
    "effect": "effect", "se": "se", "df": "df", "lfsr": "lfsr", "q": "adj_p_value", "ci_low": "ci_low", "ci_high": "ci_high",
    "p_value": "p_value",
}  # fmt: skip
OF_TARGET = ("status", "lam", "n_reference", "contrast", "error_rate")
PARTS, PLAN = "parts", "plan.json"


def to_anndata(table: pd.DataFrame) -> ad.AnnData:
    """A table of effects as AnnData, targets x genes.

    Parameters
    ----------
    table
        From ``predict_effects`` or ``differential_expression_ppi``, of one context at most.

    Returns
    -------
    AnnData
        ``X`` and layer ``effect``: effects; layers ``se, df, lfsr, q`` (the adjusted p-value)``, ci_low, ci_high, p_value``,
        float32; ``obs`` what is said per target; ``uns["parameters"]`` how it was made, as JSON.

    Raises
    ------
    ValueError
        If the table holds several contexts, or targets with different genes.

    Examples
    --------
    >>> import dbdiffusion
    >>> effects = dbdiffusion.to_anndata(model.predict_effects(model.perturbation_names[:3]))
    >>> effects.shape == (3, adata.n_vars), sorted(name for name in effects.layers if name)[:3]
    (True, ['ci_high', 'ci_low', 'df'])
    """
    if "context" in table and table["context"].nunique() > 1:
        names = list(table["context"].unique())
        msg = f"The table holds {len(names)} contexts, {names[:5]}: `to_anndata(table[table['context'] == {names[0]!r}])`."
        raise ValueError(msg)
    targets, genes = table["target"].astype(str).unique(), table["variable"].astype(str).unique()
    if len(table) != len(targets) * len(genes) or table.duplicated(["target", "variable"]).any():
        msg = f"The table must have one row for each of {len(targets)} targets and {len(genes)} genes, got {len(table)} rows."
        raise ValueError(msg)
    row = pd.Index(targets).get_indexer(table["target"].astype(str))
    column = pd.Index(genes).get_indexer(table["variable"].astype(str))
    layers = {}
    for name, source in LAYERS.items():
        if source in table:
            layers[name] = np.full((len(targets), len(genes)), np.nan, dtype=np.float32)
            layers[name][row, column] = table[source].to_numpy(dtype=np.float32)
    first = table.groupby("target", sort=False).first()
    obs = first[[name for name in OF_TARGET if name in first]].set_axis(pd.Index(targets, name=None), axis=0)
    if isinstance(told := table.attrs.get("told_apart"), dict):
        obs = obs.assign(told_apart=[bool(told.get(name, True)) for name in obs.index])
    effects = ad.AnnData(layers["effect"].copy(), obs=obs, var=pd.DataFrame(index=pd.Index(genes)), layers=layers)
    of_all = {name: value for name, value in table.attrs.items() if name != "told_apart"}
    effects.uns["parameters"] = json.dumps(of_all, default=str, sort_keys=True)
    return effects


def write_effects(
    store: Path, targets: Sequence[str], answer: Callable[[list[str]], pd.DataFrame], chunk: int, track: Any = iter
) -> Path:
    """Effects of many targets in a zarr store, chunk by chunk; a run that was killed goes on where it stopped.

    Finished chunks lie beside the store as stores of their own until all are there, and are then put together without being
    held in memory. Chunks hold the same targets whenever they are computed, so the result is that of a run that was not killed.

    Parameters
    ----------
    store
        Folder that appears when all is done.
    targets
        Names.
    answer
        Of some targets to their table of effects.
    chunk
        Targets at once.
    track
        Of an iterable, to show progress.

    Returns
    -------
    Path
        Of the store, for :func:`anndata.read_zarr`, or :func:`anndata.experimental.read_lazy` where it is larger than memory.

    Raises
    ------
    FileExistsError
        If the store exists.
    ValueError
        If unfinished parts of another list of targets are there.

    Examples
    --------
    >>> import tempfile
    >>> store = Path(tempfile.mkdtemp()) / "effects.zarr"
    >>> written = write_effects(store, unseen, lambda some: model.predict_effects(some, n_cells=64), chunk=1)
    >>> ad.read_zarr(written).obs_names.tolist() == unseen
    True
    """
    store = Path(store)
    if store.exists():
        msg = f"{str(store)!r} exists already; name another store, or remove it."
        raise FileExistsError(msg)
    unfinished = store.with_name(f".{store.name}.unfinished")
    plan = {"targets": list(targets), "chunk": chunk}
    _check_plan(unfinished, plan)
    parts = []
    for start in track(range(0, len(targets), chunk)):
        part = unfinished / f"{PARTS}-{start:07d}.zarr"
        parts.append(part)
        if not part.exists():
            written = part.with_name(f"{part.name}.writing")
            shutil.rmtree(written, ignore_errors=True)
            to_anndata(answer(list(targets[start : start + chunk]))).write_zarr(written)
            written.rename(part)
    whole = unfinished / "whole.zarr"
    shutil.rmtree(whole, ignore_errors=True)
    _put_together(parts, whole, len(targets))
    whole.rename(store)
    shutil.rmtree(unfinished)
    return store


def _check_plan(unfinished: Path, plan: dict[str, Any]) -> None:
    file = unfinished / PLAN
    if file.exists():
        if json.loads(file.read_text()) != plan:
            msg = f"{str(unfinished)!r} holds parts of another list of targets. Remove it, or name another store."
            raise ValueError(msg)
        return
    unfinished.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(plan))


def _put_together(parts: list[Path], whole: Path, n: int) -> None:
    """One store of all parts, by way of files as large as its arrays, of which memory holds what is at hand."""
    first = ad.read_zarr(parts[0])
    files = {name: whole.with_name(f"{name}.dat") for name in first.layers if name is not None}  # None: X itself
    arrays = {name: np.memmap(file, np.float32, "w+", shape=(n, first.n_vars)) for name, file in files.items()}
    start, obs = 0, []
    for part in parts:
        one = ad.read_zarr(part)
        for name, array in arrays.items():
            array[start : start + one.n_obs] = one.layers[name]
        start += one.n_obs
        obs.append(one.obs)
    layers = {name: np.asarray(array) for name, array in arrays.items()}
    ad.AnnData(layers["effect"], obs=pd.concat(obs), var=first.var, uns=first.uns, layers=layers).write_zarr(whole)
