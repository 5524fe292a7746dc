"""What set-up says of names that can be meant otherwise than they are read, before anything is trained on them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion._words import say
from dbdiffusion.screen import CONTROL_WORDS, canonical_names, folded_name, split_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dbdiffusion.screen import NameRule

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
