"""Names of perturbations and their parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container


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
