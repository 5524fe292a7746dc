"""Names of perturbations and their parts."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Sequence


def parts_of(name: str, separator: str, genes: Container[str]) -> tuple[str, ...]:
    """Parts of a combination; a name that stands for itself is its only part, and so is a gene that holds the separator.

    Examples
    --------
    >>> parts_of("A+B", "+", ["A"]), parts_of("HLA-A", "-", ["HLA-A"])
    (('A', 'B'), ('HLA-A',))
    """
    if separator and separator in name and name not in genes:
        return tuple(part.strip() for part in name.split(separator))
    return (name,)


def not_placed(name: str, known: Sequence[str]) -> str:
    """What to say of a name that nothing places, with close ones among those that are known.

    Examples
    --------
    >>> "Did you mean 'GATA1'?" in not_placed("GATA", ["GATA1", "MYC"])
    True
    """
    close = difflib.get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return (
        f"{name!r} was not measured, is not among the measured genes and has no vector of your own, so nothing places "
        f"it.{hint} Either give it a vector (`embedding_key` in `setup_anndata`, or `add_perturbations`), or keep its "
        "gene among the measured genes."
    )
