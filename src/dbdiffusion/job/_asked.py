"""What is asked of which screen: everything that can be refused is refused here, before any training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scvi

from dbdiffusion._words import whole_number
from dbdiffusion.data import hold_out, read_screen, simulate_screen
from dbdiffusion.model import DBDiffusion, training_options

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from pathlib import Path

    from anndata import AnnData


# Names of perturbations in a file, one a line.


def listed_targets(file: Path) -> list[str]:
    r"""The names, each once, in the order of the file; empty lines do not count.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no text, or names nothing.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "targets.txt"
    ...     _ = file.write_text("MYC\n\nSPI1\nMYC\n")
    ...     listed_targets(file)
    ['MYC', 'SPI1']
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        msg = f"{str(file)!r} is no text with a name a line: {error}"
        raise ValueError(msg) from error
    names = list(dict.fromkeys(name for line in lines if (name := line.strip())))
    if not names:
        msg = f"{str(file)!r} names no perturbation: write one a line."
        raise ValueError(msg)
    return names


SIMULATED_HOLD_OUT = 8
MIN_LEFT = 2  # measured perturbations of a context, so that there is a direction to learn
SEPARATOR = "+"


@dataclass(frozen=True)
class Asked:
    """A screen in two parts, an untrained model of the first, and what to predict.

    Parameters
    ----------
    model
        Set up with ``rest``, with the strategy asked for.
    rest, cells
        The cells to train on, and those of hidden perturbations.
    setup
        Arguments of ``setup_anndata``.
    targets
        Hidden perturbations, then those without cells.
    truth
        True effects (perturbations, G) of a simulated screen.
    listed
        Perturbations whose effects go into the store.
    """

    model: DBDiffusion
    rest: AnnData
    cells: AnnData
    setup: dict[str, Any]
    targets: list[str]
    truth: pd.DataFrame | None
    listed: list[str]


def prepare(arguments: Namespace) -> Asked:
    """Read the screen, hide what is to be predicted, and check everything that can be known before training.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    KeyError
        If a column, a perturbation to hide or a target is unknown.
    ValueError
        For anything else that cannot be; the message says what and why.
    """
    _check_numbers(arguments)
    screen = (
        simulate_screen(alignment=arguments.alignment, seed=arguments.seed)
        if arguments.h5ad is None
        else read_screen(arguments.h5ad)
    )
    setup = _setup(arguments)
    DBDiffusion.setup_anndata(screen.copy(), **setup)  # every complaint about the data comes before any other
    hidden = _choose_hidden(screen, arguments)
    if not hidden and not arguments.targets:
        of_store = ", so that the report can show how good the others are" * _has_store(arguments)
        msg = f"Nothing to predict: name `--hold-out`, `--hold-out-n` or `--targets`{of_store}."
        raise ValueError(msg)
    rest, cells = _hide(screen, hidden, arguments.perturbation_key)
    _check_what_is_left(rest.obs, arguments)
    scvi.settings.seed = arguments.seed
    DBDiffusion.setup_anndata(rest, **setup)
    model = DBDiffusion(rest)
    model.set_strategy(arguments.strategy)
    targets = list(dict.fromkeys([*hidden, *arguments.targets]))
    listed = [] if arguments.targets_file is None else listed_targets(arguments.targets_file)
    model.check_targets([*targets, *listed])
    _check_unmeasured(rest, arguments)
    return Asked(model, rest, cells, setup, targets, None if model.contexts else _truth(screen), listed)


def _has_store(arguments: Namespace) -> bool:
    return arguments.all_genes or arguments.targets_file is not None


def _check_numbers(arguments: Namespace) -> None:
    whole_number("seed", arguments.seed)
    whole_number("n_cells", arguments.n_cells, 1)
    training_options(arguments.max_epochs)
    training_options(arguments.max_epochs_diffusion, named="max_epochs_diffusion")
    if arguments.hold_out_n is not None:
        whole_number("hold_out_n", arguments.hold_out_n)


def _setup(arguments: Namespace) -> dict[str, Any]:
    if arguments.context_key is not None and arguments.cross_fitting == "k_fold":
        msg = "`--cross-fitting k_fold` is not for several contexts: folds are not retrained there. Leave one of the two out."
        raise ValueError(msg)
    if arguments.context_key is not None and _has_store(arguments):
        msg = (
            "`--targets-file` and `--all-genes` are not for several contexts. Leave them out, and then ask the model that is "
            "written for one context: `python -m dbdiffusion effects results/model effects.zarr --context ...`."
        )
        raise ValueError(msg)
    batch_key = arguments.batch_key or ("batch" if arguments.h5ad is None else None)
    keys = ("perturbation_key", "control", "layer", "context_key", "size_factor_key", "embedding_key")
    return {**{key: getattr(arguments, key) for key in keys}, "batch_key": batch_key}


def _choose_hidden(screen: AnnData, arguments: Namespace) -> list[str]:
    n = arguments.hold_out_n
    if n is None:
        n = SIMULATED_HOLD_OUT if arguments.h5ad is None and not arguments.hold_out and not arguments.targets else 0
    names = sorted(set(screen.obs[arguments.perturbation_key].astype(str)) - {arguments.control, *arguments.hold_out})
    candidates = _placed_without_cells(names, screen, arguments.embedding_key) or names
    most = min(len(candidates), len(names) - 1)
    if n > most:
        which = "" if len(candidates) == len(names) else (
            f", and {len(candidates)} of {len(names)} could be predicted without their cells: the others are no measured genes"
        )  # fmt: skip
        msg = f"`--hold-out-n` must leave a perturbation to learn from{which}. At most {most}, got {n}."
        raise ValueError(msg)
    chosen = np.random.default_rng(arguments.seed).choice(candidates, n, replace=False) if n else []
    hidden = [*arguments.hold_out, *map(str, sorted(chosen))]
    if arguments.control in hidden:
        msg = f"Control {arguments.control!r} is what targets are compared with; leave it out of `--hold-out`."
        raise ValueError(msg)
    return hidden


def _placed_without_cells(names: Sequence[str], screen: AnnData, embedding_key: str | None) -> list[str]:
    """Names whose every part is a measured gene, has a vector, or, in a combination, has cells of its own."""
    table = None if embedding_key is None else screen.uns.get(embedding_key)
    known = {*screen.var_names, *map(str, getattr(table, "index", ()))}
    parts = {name: _parts(name, screen) for name in names}
    singles = {name for name in names if len(parts[name]) == 1}
    return [name for name in names if known.issuperset(parts[name])
            or (len(parts[name]) > 1 and (known | singles).issuperset(parts[name]))]  # fmt: skip


def _hide(screen: AnnData, hidden: list[str], key: str) -> tuple[AnnData, AnnData]:
    """The cells to train on and those hidden, of a combination in every order of its parts and under the name asked for."""
    asked = {_parts(name, screen): name for name in hidden}
    column = screen.obs[key].astype(str)
    others = [name for name in column.unique() if _parts(name, screen) in asked and name not in hidden]
    rest, cells = hold_out(screen, [*hidden, *others], key)
    if others:
        cells.obs[key] = [asked[_parts(name, screen)] for name in cells.obs[key].astype(str)]
    return rest, cells


def _parts(name: str, screen: AnnData) -> tuple[str, ...]:
    """Parts of a combination in the order of the alphabet; a gene whose name holds the separator is its only part."""
    return (name,) if name in screen.var_names else tuple(sorted(part.strip() for part in name.split(SEPARATOR)))


def _check_what_is_left(obs: pd.DataFrame, arguments: Namespace) -> None:
    if arguments.context_key is None:
        return
    names = obs[arguments.perturbation_key].astype(str)
    names = names.where(names != arguments.control)
    left = names.groupby(obs[arguments.context_key].astype(str)).nunique()
    lacking = left[left < MIN_LEFT].to_dict()
    if lacking:
        msg = (
            f"Every context must keep at least {MIN_LEFT} measured perturbations to learn from, but after hiding these keep "
            f"fewer: {dict(list(lacking.items())[:5])}. Hide fewer, or drop the cells of those contexts."
        )
        raise ValueError(msg)


def _check_unmeasured(rest: AnnData, arguments: Namespace) -> None:
    """A target with cells, in every context, would be answered by them, and is no prediction."""
    names = rest.obs[arguments.perturbation_key].astype(str)
    contexts = rest.obs[arguments.context_key].astype(str) if arguments.context_key else pd.Series("", rest.obs_names)
    parts = {name: _parts(name, rest) for name in names.unique()}
    for target in arguments.targets:
        is_own = np.array([parts[name] == _parts(target, rest) for name in names], dtype=bool)
        if is_own.any() and contexts[is_own].nunique() == contexts.nunique():
            msg = (
                f"`--targets` {target!r} has {is_own.sum()} cells, so its effect is measured: it stands in "
                "differential_expression.csv anyway. To predict it without them, name it in `--hold-out`."
            )
            raise ValueError(msg)


def _truth(screen: AnnData) -> pd.DataFrame | None:
    """The simulator's true effects; what others keep under this name is something else, and is left alone."""
    table = screen.uns.get("true_effects")
    if not isinstance(table, pd.DataFrame) or not (table.index.is_unique and table.columns.is_unique):
        return None
    return (
        table if all(map(pd.api.types.is_numeric_dtype, table.dtypes)) and set(table.columns) & set(screen.var_names) else None
    )
