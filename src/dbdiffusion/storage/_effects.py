"""Effects of many targets as AnnData, in memory or in a zarr store written block by block, which goes on after a kill."""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import zarr
from anndata.io import read_elem, write_elem

from dbdiffusion.storage._files import whole_file, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LAYERS = {
    "effect": "effect", "se": "se", "df": "df", "lfsr": "lfsr", "q": "adj_p_value", "ci_low": "ci_low", "ci_high": "ci_high",
    "p_value": "p_value",
}  # fmt: skip
OF_TARGET = ("status", "lam", "n_reference", "contrast", "error_rate")
OF_NEXT_VERSIONS = ("zarr v3 autosharding", "Consolidated metadata is currently not part")
DONE, PLAN, PARAMETERS = "done", "plan.json", "parameters"


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
    (row, targets), (column, genes) = (pd.factorize(table[name], use_na_sentinel=False) for name in ("target", "variable"))
    n_rows = np.bincount(row * len(genes) + column, minlength=len(targets) * len(genes))
    if (n_rows != 1).any():
        msg = f"The table must have one row for each of {len(targets)} targets and {len(genes)} genes, got {len(table)} rows."
        raise ValueError(msg)
    layers = {}
    for name, source in LAYERS.items():
        if source in table:
            layers[name] = np.full((len(targets), len(genes)), np.nan, dtype=np.float32)
            layers[name][row, column] = table[source].to_numpy(dtype=np.float32)
    first = table.iloc[np.unique(row, return_index=True)[1]]
    obs = first[[name for name in OF_TARGET if name in first]].set_axis(pd.Index(targets.astype(str)), axis=0)
    told = table.attrs.get("told_apart")
    if isinstance(told, dict) and "context" in table and isinstance(table.attrs.get("context"), list):
        told = told.get(table["context"].iloc[0])  # of a table of several contexts each has its own
    if isinstance(told, dict):
        obs = obs.assign(told_apart=[bool(told.get(name, True)) for name in obs.index])
    effects = ad.AnnData(layers["effect"].copy(), obs=obs, var=pd.DataFrame(index=genes.astype(str)), layers=layers)
    of_all = {name: value for name, value in table.attrs.items() if name != "told_apart"}
    effects.uns[PARAMETERS] = _as_text(of_all)
    return effects


def write_effects(
    store: Path,
    targets: Sequence[str],
    answer: Callable[[list[str]], ad.AnnData],
    chunk: int,
    part: tuple[int, int] | None = None,
    asked: Any = None,
    track: Any = iter,
) -> Path:
    """Effects of many targets in a zarr store, block by block; a run that was killed goes on where it stopped.

    The store is made at its full size beside its final place. Every block of targets is written into its own chunks of it, so
    any number of processes may write at once, and a block that was finished is never made again. Blocks hold the same targets
    whoever computes them, so the result does not depend on how they were shared out.

    Parameters
    ----------
    store
        Folder that appears when all is done.
    targets
        Names.
    answer
        Of some targets to their effects, as :func:`to_anndata` makes them.
    chunk
        Targets of a block.
    part
        ``(i, n)``, the i-th of n: only every n-th block. The store does not appear then: the same call without it makes what is
        missing, and ends it.
    asked
        What else the numbers depend on, as JSON takes it: blocks of another answer are not mixed in.
    track
        Of an iterable, to show progress.

    Returns
    -------
    Path
        Of the store, for :func:`anndata.read_zarr`, or :func:`anndata.experimental.read_lazy` where it is larger than memory;
        of a part, the folder where blocks lie until all is done.

    Raises
    ------
    FileExistsError
        If the store exists.
    ValueError
        If unfinished blocks of something else are there.

    Examples
    --------
    >>> import tempfile
    >>> from dbdiffusion import to_anndata
    >>> store = Path(tempfile.mkdtemp()) / "effects.zarr"
    >>> answer = lambda some: to_anndata(model.predict_effects(some, n_cells=64))
    >>> written = write_effects(store, unseen, answer, chunk=1)
    >>> ad.read_zarr(written).obs_names.tolist() == unseen
    True
    """
    store = Path(store)
    if store.exists():
        msg = f"{str(store)!r} exists already; name another store, or remove it."
        raise FileExistsError(msg)
    unfinished = _Unfinished(store.with_name(f".{store.name}.unfinished"), tuple(targets), chunk)
    unfinished.open(asked)
    starts = range(0, len(targets), chunk)
    mine = starts if part is None else starts[part[0] - 1 :: part[1]]
    for start in track([start for start in mine if not unfinished.has(start)]):
        unfinished.add(start, answer(list(targets[start : start + chunk])))
    if part is not None:
        return unfinished.folder
    unfinished.end(store)
    return store


@dataclass(frozen=True)
class _Unfinished:
    """A store on its way: the arrays at their full size, and for each block that is in them what is said of its targets."""

    folder: Path
    targets: tuple[str, ...]
    chunk: int

    @property
    def arrays(self) -> Path:
        """Where the store lies until it is whole."""
        return self.folder / "store.zarr"

    def open(self, asked: Any) -> None:
        """Begin, or go on with what was begun for the same question."""
        plan = json.loads(json.dumps({"targets": self.targets, "chunk": self.chunk, "asked": asked}, default=str))
        file = self.folder / PLAN
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(plan).encode())
        elif json.loads(file.read_text()) != plan:
            msg = (
                f"{str(self.folder)!r} holds blocks of other targets, of other options or of another model. Remove it, or name "
                "another store."
            )
            raise ValueError(msg)
        if not self.arrays.exists():  # nor can there be a block of them
            shutil.rmtree(self.folder / DONE, ignore_errors=True)
        (self.folder / DONE).mkdir(exist_ok=True)

    def has(self, start: int) -> bool:
        """Whether the block that begins there is in the arrays."""
        return self._said(start).exists()

    def add(self, start: int, block: ad.AnnData) -> None:
        """Write a block, then what is said of its targets, which tells that it is whole."""
        if not self.arrays.exists():
            with _without_plans_of_others():
                self._make_arrays(block)
        group: Any = zarr.open_group(self.arrays, mode="r+")
        rows = slice(start, start + block.n_obs)
        for path, values in _arrays_of(block).items():
            group[path][rows] = values
        with whole_file(self._said(start)) as file, h5py.File(file, "w") as said:
            write_elem(said, "obs", block.obs)
            write_elem(said, "uns", dict(block.uns))

    def end(self, store: Path) -> None:
        """Put down what is said of all targets, and give the store its place."""
        said = []
        for start in range(0, len(self.targets), self.chunk):
            with h5py.File(self._said(start)) as file:
                said.append((read_elem(file["obs"]), json.loads(read_elem(file["uns"])[PARAMETERS])))
        whole = ad.AnnData(obs=pd.concat([obs for obs, _ in said]))
        whole.strings_to_categoricals()
        with _without_plans_of_others():
            group = zarr.open_group(self.arrays, mode="r+")
            write_elem(group, "obs", whole.obs)
            write_elem(group, "uns", {PARAMETERS: _as_text(_together([parameters for _, parameters in said]))})
            self.arrays.rename(store)
            zarr.consolidate_metadata(str(store))
        shutil.rmtree(self.folder)

    def _said(self, start: int) -> Path:
        return self.folder / DONE / f"{start:07d}.h5"

    def _make_arrays(self, first: ad.AnnData) -> None:
        """All arrays, filled with zeros that take no room; of several processes the first to come makes them."""
        made = self.folder / f"{uuid4().hex}.zarr"
        group = zarr.open_group(made, mode="w")
        shape = (len(self.targets), first.n_vars)
        write_elem(group, "/", ad.AnnData(obs=pd.DataFrame(index=list(self.targets)), var=first.var))
        files: dict[str, Any] = {"chunks": (min(self.chunk, shape[0]), shape[1])}
        if hasattr(zarr.Group, "create_array"):  # from version 3 on a file may hold several chunks, and no two may write to it
            files["shards"] = None
        for path in _arrays_of(first):
            where, _, name = path.rpartition("/")
            parent: Any = group[where] if where else group
            write_elem(parent, name, np.broadcast_to(np.float32(0), shape), dataset_kwargs=files)
        try:
            made.rename(self.arrays)
        except OSError:
            if not self.arrays.exists():
                raise
            shutil.rmtree(made)


@contextlib.contextmanager
def _without_plans_of_others() -> Iterator[None]:
    """What anndata and zarr say of their own next versions tells a user of effects nothing."""
    with warnings.catch_warnings():
        for message in OF_NEXT_VERSIONS:
            warnings.filterwarnings("ignore", message)
        yield


def _arrays_of(effects: ad.AnnData) -> dict[str, np.ndarray]:
    """Path in a store to values."""
    return {"X": effects.X, **{f"layers/{name}": effects.layers[name] for name in effects.layers if name is not None}}


def _together(parameters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is said of all blocks; of kinds of targets, single or combined, what is said where there are any."""
    whole: dict[str, Any] = {}
    for one in parameters:
        for name, value in one.items():
            whole[name] = {**whole.get(name, {}), **value} if isinstance(value, dict) else value
    return whole


def _as_text(parameters: dict[str, Any]) -> str:
    return json.dumps(parameters, default=str, sort_keys=True)
