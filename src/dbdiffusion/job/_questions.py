"""Questions to a saved model or a table, from the shell: rank, suggest, compare, effects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from dbdiffusion.data import read_screen
from dbdiffusion.job._asked import listed_targets
from dbdiffusion.model import DBDiffusion
from dbdiffusion.plotting import errors_by_target
from dbdiffusion.predict import compare

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

OF_CELLS = ("perturbation_key", "control", "layer", "batch_key", "size_factor_key")


def answer_question(arguments: Namespace) -> tuple[pd.DataFrame, str]:
    """The table that ``rank``, ``suggest``, ``compare`` or ``effects`` asks for, and what is said with it.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError, KeyError
        For what cannot be meant; the message says what and why.

    Examples
    --------
    >>> import tempfile
    >>> from dbdiffusion.job import parse_arguments
    >>> folder = tempfile.mkdtemp() + "/model"
    >>> model.save(folder)
    >>> table, words = answer_question(parse_arguments(["suggest", folder, "2", "--quiet"]))
    >>> table["rank"].tolist()
    [1, 2]
    """
    if arguments.out is not None and not arguments.out.parent.is_dir():
        msg = f"`--out` must lie in a folder that exists, and {str(arguments.out.parent)!r} does not."
        raise FileNotFoundError(msg)
    ask = {"rank": _rank, "suggest": _suggest, "compare": _compare, "effects": _effects}[arguments.command]
    table, words = ask(arguments)
    if arguments.out is not None:
        table.to_csv(arguments.out, index=False)
    return table, words


def _rank(arguments: Namespace) -> tuple[pd.DataFrame, str]:
    direction = arguments.direction if arguments.signature is None else _signature(arguments.signature)
    model = _loaded(arguments.model)
    table = model.rank_targets(
        direction,
        arguments.candidates,
        arguments.threshold,
        arguments.alternative,
        arguments.confidence,
        seed=arguments.seed,
        context=arguments.context,
    )
    said = [one for kind in ("single", "combination") for one in _told(table, kind).items()]
    return table, " ".join(_of_head(of_what, told) for of_what, told in said if "head" in told)


def _told(table: pd.DataFrame, kind: str) -> dict[str, dict]:
    """What a ranking says of a kind of candidates, in every context that it holds."""
    told = table.attrs.get(kind, {})
    return {f"{kind}, {name}": one for name, one in told.items()} if "context" in table else {kind: told}


def _of_head(kind: str, told: dict) -> str:
    rows = [f"{100 * row['share']:g} %: {row['precision']:.2f} (by chance {row['chance']:.2f})" for row in told["head"]]
    of_what = f"{told['n_reference']} left-out references ({kind})"
    return f"Precision of the first of the ranking, by {of_what}: {', '.join(rows)}."


def _suggest(arguments: Namespace) -> tuple[pd.DataFrame, str]:
    model = _loaded(arguments.model)
    asked = model if arguments.context is None else model.in_context(arguments.context)
    table = asked.suggest_targets(arguments.n, arguments.candidates)
    left = table["uncertainty"].iloc[-1]
    return table, f"Candidates would then be uncertain by {left:.2f} on average (1: nothing is known)."


def _compare(arguments: Namespace) -> tuple[pd.DataFrame, str]:
    cells = {name: value for name in OF_CELLS if (value := getattr(arguments, name)) is not None}
    if arguments.observed is not None and cells:
        msg = f"{sorted(cells)} belong to `--h5ad`, and `--observed` is a table; leave them out."
        raise ValueError(msg)
    observed = _table(arguments.observed) if arguments.h5ad is None else read_screen(arguments.h5ad)
    comparison = compare(_table(arguments.predicted), observed, **cells)
    if arguments.plot is not None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4, 1 + 0.25 * len(comparison.table)), layout="constrained")
        errors_by_target(comparison.table, figure.subplots())
        figure.savefig(arguments.plot, dpi=150)
    return comparison.table, comparison.verdict


def _effects(arguments: Namespace) -> tuple[pd.DataFrame, str]:
    targets = None if arguments.all_genes else arguments.targets or listed_targets(arguments.targets_file)
    model = _loaded(arguments.model)
    asked = model if arguments.context is None else model.in_context(arguments.context)
    way = {"n_cells": arguments.n_cells, "seed": arguments.seed}
    written = asked.write_effects(arguments.store, targets, part=arguments.part, **way)
    words = "Read it with `anndata.read_zarr`."
    if arguments.part is not None:
        i, n = arguments.part
        words = f"Part {i} of {n} is done. When all are, the same command without --part ends the store."
    return pd.DataFrame({"written": [str(written)], "targets": ["all" if targets is None else len(targets)]}), words


def _loaded(folder: Path) -> DBDiffusion:
    return DBDiffusion.load(folder, adata=False)


def _table(file: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(file)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        msg = f"{str(file)!r} is no table with commas: {error}"
        raise ValueError(msg) from error


def _signature(file: Path) -> pd.Series:
    table = _table(file)
    if table.shape[1] != 2:
        msg = f"A signature has two columns, genes and weights, and {str(file)!r} has {list(table.columns[:5])}."
        raise ValueError(msg)
    return table.set_index(table.columns[0]).iloc[:, 0]
