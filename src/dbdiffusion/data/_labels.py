"""The column that names the perturbation of every cell: checked, read in one way, and what looks odd about it said."""

from __future__ import annotations

import re
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion._words import say
from dbdiffusion.screen import CONTROL_WORDS, NameRule, canonical_names, close_names, folded_name, meant, split_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


# Checks of the arguments of a set-up and of the columns they name.


_LISTS = ("categorical_covariate_keys", "continuous_covariate_keys")
_NUMBERS = ("size_factor_key", "continuous_covariate_keys")


def check_texts(optional: Mapping[str, Any], **required: Any) -> None:
    """Raise unless arguments are text; those in ``optional`` may be None, and a list of columns must be one.

    Raises
    ------
    TypeError
        Otherwise.

    Examples
    --------
    >>> check_texts({"layer": None}, perturbation_key="perturbation")
    >>> check_texts({}, perturbation_key=3)
    Traceback (most recent call last):
    TypeError: `perturbation_key` must be text, got 3 (int).
    """
    for name, value in required.items():
        if not isinstance(value, str):
            msg = f"`{name}` must be text, got {value!r} ({type(value).__name__})."
            raise TypeError(msg)
    for name, value in optional.items():
        is_list = name in _LISTS
        texts = list(value) if is_list and isinstance(value, list | tuple) else [value]
        if value is not None and (not all(isinstance(text, str) for text in texts) or (is_list and isinstance(value, str))):
            kind = "a list of columns" if is_list else "text"
            msg = f"`{name}` must be {kind} or None, got {value!r} ({type(value).__name__})."
            raise TypeError(msg)


def column_of(obs: pd.DataFrame, argument: str, column: str) -> pd.Series:
    """The column that an argument names.

    Raises
    ------
    KeyError
        If it is missing; close names are suggested.
    ValueError
        If it is there more than once.

    Examples
    --------
    >>> column_of(adata.obs, "batch_key", "batch").nunique()
    2
    >>> column_of(adata.obs, "batch_key", "bach")
    Traceback (most recent call last):
    KeyError: ...
    """
    if column not in obs:
        known = sorted(str(name) for name in obs.columns if not str(name).startswith("_scvi"))
        msg = f"`{argument}` {column!r} is not in adata.obs, which has {known}.{meant(column, known)}"
        raise KeyError(msg)
    if (obs.columns == column).sum() > 1:
        msg = f"`{argument}` {column!r} is in adata.obs more than once; keep one column of that name."
        raise ValueError(msg)
    return obs[column]


def check_columns(obs: pd.DataFrame, argument: str, columns: str | list[str] | None) -> None:
    """Raise unless the columns that an argument names are there and can be used.

    Raises
    ------
    KeyError
        If a column is missing; close names are suggested.
    ValueError
        If it is there more than once; on missing values; on values that are no finite numbers where numbers are needed; on
        size factors not above 0.

    Examples
    --------
    >>> import pandas as pd
    >>> check_columns(pd.DataFrame({"batch": ["a", None]}), "batch_key", "batch")
    Traceback (most recent call last):
    ValueError: obs['batch'] (`batch_key`) has missing values. Name them, or drop those cells.
    """
    for column in [columns] if isinstance(columns, str) else columns or []:
        values = column_of(obs, argument, column)
        if argument in _NUMBERS:
            _check_numbers(values, argument, column)
        else:
            _check_categories(values, argument, column)
        if values.isna().any():
            msg = f"obs[{column!r}] (`{argument}`) has missing values. Name them, or drop those cells."
            raise ValueError(msg)


def _check_categories(values: pd.Series, argument: str, column: str) -> None:
    """Categories are sorted and written as text, so they must be text, or numbers."""
    kinds = values.cat.categories if isinstance(values.dtype, pd.CategoricalDtype) else values
    if kinds.dtype != object and (pd.api.types.is_numeric_dtype(kinds.dtype) or pd.api.types.is_string_dtype(kinds.dtype)):
        return
    types = {type(value) for value in kinds.dropna()} if kinds.dtype == object else {kinds.dtype.type}
    numbers = [issubclass(one, Number | np.bool_) and not issubclass(one, np.timedelta64) for one in types]
    if all(issubclass(one, str) for one in types) or all(numbers):
        return
    msg = (
        f"obs[{column!r}] (`{argument}`) must hold text, or numbers, got {sorted(one.__name__ for one in types)}. Make it "
        f"text: `adata.obs[{column!r}] = adata.obs[{column!r}].astype(str)`."
    )
    raise ValueError(msg)


def _check_numbers(values: pd.Series, argument: str, column: str) -> None:
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    if not pd.api.types.is_numeric_dtype(values.dtype) or not np.isfinite(numbers).all():
        msg = f"obs[{column!r}] (`{argument}`) must hold finite numbers, got some that are missing, infinite or text."
        raise ValueError(msg)
    if argument == "size_factor_key" and (numbers <= 0).any():
        msg = f"obs[{column!r}] (`{argument}`) must be above 0 for every cell: drop the others, they have no counts."
        raise ValueError(msg)


def check_contexts(contexts: pd.Series, perturbations: pd.Series, context_key: str, control: str) -> None:
    """Raise unless every context has at least two control cells.

    Parameters
    ----------
    contexts, perturbations
        Of the same cells in the same order; a MuData may keep them in different modalities. Perturbations by their one name.
    context_key, control
        As set up, for the message and to tell control cells.

    Raises
    ------
    ValueError
        Otherwise; effects are contrasts with control inside a context.

    Examples
    --------
    >>> import pandas as pd
    >>> day, name = pd.Series(["2", "2", "5"]), pd.Series(["control", "control", "MYC"])
    >>> check_contexts(day, name, "day", "control")
    Traceback (most recent call last):
    ValueError: Every context of `context_key` 'day' needs at least 2 cells of control 'control', but ['5'] have fewer...
    """
    is_control = (perturbations.astype(str) == control).to_numpy()
    contexts = contexts.astype(str)
    sizes = contexts[is_control].value_counts().reindex(contexts.unique(), fill_value=0)
    lacking = [name for name, size in sizes.items() if size < 2]
    if lacking:
        msg = (
            f"Every context of `context_key` {context_key!r} needs at least 2 cells of control {control!r}, but "
            f"{lacking[:5]!r} have fewer ({sizes[lacking].tolist()[:5]}). Drop their cells, or merge them with "
            "contexts they resemble."
        )
        raise ValueError(msg)


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


# What set-up says of names that can be meant otherwise than they are read, before anything is trained on them.


MISSING_WORDS = ("nan", "none", "na", "n/a", "<na>", "null", "nat")
SEPARATORS = ("_", "+", ",", ";", "|", "&", "/", "-", ":", ".", "__", " ")
ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}")
TOTALS = ("total_counts", "totalcounts", "n_counts", "ncounts", "ncount_rna", "n_umis", "n_umi", "umi_count", "umi_counts")
MORE = 1.2  # times the totals of X: lowly expressed genes that were dropped are less
NEARLY_ALL = 0.95  # of the cells
MANY = 2  # times as many names that are genes in another case make the case the likelier reading


def say_suspicions(labels: pd.Series, rule: NameRule, var: pd.DataFrame, vectors: Iterable[str] = ()) -> None:
    """Warn of labels that look as if they were meant otherwise.

    Parameters
    ----------
    labels
        Of every cell, as they are written.
    rule
        How they are read.
    var
        Of the genes; its columns may hold the names that perturbations go by.
    vectors
        Names in the user's table, which places perturbations too.

    Examples
    --------
    >>> import warnings
    >>> import pandas as pd
    >>> from dbdiffusion.screen import NameRule
    >>> labels = pd.Series(["control", "control", "A", "a"])
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     say_suspicions(labels, NameRule(), pd.DataFrame(index=["A", "B"]))
    >>> "differ only by blanks or case" in str(said[0].message)
    True
    """
    sizes = labels.value_counts().to_dict()
    names = canonical_names(sizes, rule)
    genes = set(var.index.astype(str))
    for message in (
        *_repeats(sizes, rule),
        *_look_alikes(sizes, names, rule, genes),
        *_no_names(sizes, rule, genes),
        *_other_separator(set(names.values()), rule, genes),
        *_no_genes(set(names.values()), rule, var, set(vectors)),
    ):
        say(message)


def say_other_totals(obs: pd.DataFrame, totals: np.ndarray) -> None:
    """Warn where a column of total counts says that X holds only some of the genes.

    Parameters
    ----------
    obs
        Of the cells.
    totals
        Total counts (N,) of X.

    Examples
    --------
    >>> import warnings
    >>> import pandas as pd
    >>> with warnings.catch_warnings(record=True) as said:
    ...     warnings.simplefilter("always")
    ...     say_other_totals(pd.DataFrame({"total_counts": [900, 1100]}), np.array([100, 200]))
    >>> str(said[0].message)[:52]
    "obs['total_counts'] is 7.2 times the totals of X in "
    """
    for column in obs:
        if folded_name(column) not in TOTALS or not pd.api.types.is_numeric_dtype(obs[column].dtype):
            continue
        ratio = obs[column].to_numpy(dtype=float)[totals > 0] / totals[totals > 0]
        if len(ratio) and (ratio >= 1).mean() > NEARLY_ALL and np.median(ratio) > MORE:
            say(
                f"obs[{column!r}] is {np.median(ratio):.1f} times the totals of X in the median cell, so X seems to hold only "
                f"some of the genes. Effects are then on another scale: set up with `size_factor_key={column!r}`."
            )
            return


def _listed(labels: Iterable[str], sizes: Mapping[str, int] | None = None) -> str:
    labels = list(labels)
    shown = ", ".join(repr(label) + (f" ({sizes[label]} cells)" if sizes else "") for label in labels[:3])
    return shown + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")


def _repeats(sizes: Mapping[str, int], rule: NameRule) -> Iterable[str]:
    repeated = [label for label in sizes if rule.repeats(label) and rule.clean(label) != rule.control]
    if repeated:
        yield (
            f"{_listed(repeated)}: a part is named more than once. Two guides against one gene are one perturbation, so "
            f"{repeated[0]!r} is read as {rule.clean(repeated[0])!r}. A double dose needs a name of its own."
        )


def _look_alikes(sizes: Mapping[str, int], names: Mapping[str, str], rule: NameRule, genes: set[str]) -> Iterable[str]:
    alike: dict[tuple[str, ...], list[str]] = {}
    for label in dict.fromkeys(names.values()):
        alike.setdefault(tuple(sorted(map(folded_name, rule.parts(label)))), []).append(label)
    cells: dict[str, int] = {}
    for label, name in names.items():
        cells[name] = cells.get(name, 0) + sizes[label]
    for group in alike.values():
        if len(group) > 1:
            what = f", and only {rule.control!r} is control" if rule.control in group else ""
            yield (
                f"{_listed(group, cells)} differ only by blanks or case, and are taken as different perturbations{what}. If "
                "they are one, name them alike first."
            )
    padded = [label for label in sizes if label != label.strip() and label not in genes]
    if padded:
        yield f"{_listed(padded, sizes)} begin or end with blanks, which are taken as part of the name. Strip them first."


def _no_names(sizes: Mapping[str, int], rule: NameRule, genes: set[str]) -> Iterable[str]:
    words = {label: label.strip().casefold() for label in sizes if label not in genes and label != rule.control}
    missing = [label for label, word in words.items() if word in MISSING_WORDS]
    if missing:
        yield (
            f"{_listed(missing, sizes)}: these read like missing values, and are taken as perturbations. Drop those cells if "
            "nobody knows what was done to them."
        )
    control = [label for label, word in words.items() if word in CONTROL_WORDS and word != rule.control.casefold()]
    if control:
        yield (
            f"{_listed(control, sizes)}: taken as a perturbation, since control is called {rule.control!r}. If these cells are "
            "unperturbed, name them alike first."
        )


def _other_separator(names: set[str], rule: NameRule, genes: set[str]) -> Iterable[str]:
    known = {folded_name(name) for name in (*genes, *names, rule.control, *CONTROL_WORDS)}
    singles = [name for name in sorted(names) if len(rule.parts(name)) == 1 and name not in genes and name != rule.control]
    found: dict[str, list[str]] = {}
    for separator in SEPARATORS:
        if separator == rule.separator:
            continue
        for name in singles:
            parts = split_name(name, separator, genes)
            if len(parts) > 1 and all(folded_name(part) in known for part in parts):
                found.setdefault(separator, []).append(name)
    if found:
        separator = max(found, key=lambda one: len(found[one]))
        yield (
            f"{_listed(found[separator])}: these look like combinations joined by {separator!r}, but `combination_sep` is "
            f"{rule.separator!r}, so each is taken as one perturbation that is no gene. If they are combinations, set up with "
            f"`combination_sep={separator!r}`."
        )


def _no_genes(names: set[str], rule: NameRule, var: pd.DataFrame, vectors: set[str]) -> Iterable[str]:
    parts = {part for name in names if name != rule.control for part in rule.parts(name)}
    genes = set(var.index.astype(str))
    exact = parts & genes
    folded = {folded_name(gene) for gene in genes}
    in_another_case = [part for part in parts if folded_name(part) in folded]
    if parts & vectors or (exact and len(in_another_case) <= MANY * len(exact)):
        return
    column = next((name for name in var if parts.intersection(var[name].astype(str))), None) if not exact else None
    if in_another_case:
        why = f"they are there in another case, as {min(in_another_case)!r}. Write both alike, as `adata.var_names.str.upper()`"
    elif column is not None:
        why = f"var[{column!r}] has them: `adata.var_names = adata.var[{column!r}]`, then `adata.var_names_make_unique()`"
    elif any(ENSEMBL.match(gene) for gene in genes):
        why = "these look like Ensembl ids. Name genes and perturbations alike"
    else:
        why = "name genes and perturbations alike, or give vectors of your own (`embedding_key`)"
    yield (
        f"{'No perturbation is' if not exact else 'Few perturbations are'} among `var_names` ({_listed(sorted(parts))} are not "
        f"among {_listed(list(var.index))}): {why}. Without it no unmeasured gene can be placed."
    )
