"""What the names of perturbations mean: parts in any order, control is none of them, and a part counts once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Container


# Names, whatever a user gives them in.


def unwrapped(given: Any) -> Any:
    """What an array without a dimension holds, which numpy does not let be listed; anything else as it is.

    Examples
    --------
    >>> unwrapped(np.array("A")), unwrapped(["A"])
    ('A', ['A'])
    """
    return given.item() if isinstance(given, np.ndarray) and given.ndim == 0 else given


def listed_names(given: Any, argument: str = "targets") -> list[str]:
    """Names in the order given, whatever holds them: text, a list, an array, a Series, an index, a generator.

    Parameters
    ----------
    given
        By the user.
    argument
        That it was given as, for the message.

    Raises
    ------
    ValueError
        Unless they are names, at least one.

    Examples
    --------
    >>> listed_names("A"), listed_names(np.array(["B", "A"])), listed_names({"B", "A"})
    (['A'], ['B', 'A'], ['A', 'B'])
    """
    given = unwrapped(given)
    listed = [given] if isinstance(given, str) else given
    names = list(listed) if isinstance(listed, Iterable) and not isinstance(listed, bytes | Mapping | pd.DataFrame) else []
    if not names or not all(isinstance(name, str) for name in names):
        msg = f"`{argument}` must be the name of a perturbation or a list of names, at least one, got {_shown(given)}."
        raise ValueError(msg)
    names = [str(name) for name in names]  # numpy's strings have another `repr`
    return sorted(names) if isinstance(given, set | frozenset) else names


def one_name(given: Any, argument: str = "name") -> str:
    """The name of one perturbation.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> one_name(np.str_("A"))
    'A'
    """
    given = unwrapped(given)
    if not isinstance(given, str):
        msg = f"`{argument}` must be the name of a perturbation, got {_shown(given)}."
        raise ValueError(msg)
    return str(given)


def _shown(given: Any, most: int = 200) -> str:
    text = repr(given)
    return text if len(text) <= most else f"{text[:most]}…"


CONTROL_WORDS = ("control", "ctrl")  # that a single perturbation is padded with, "A+ctrl", whatever control is called


def split_name(name: str, separator: str, whole: Container[str] = ()) -> tuple[str, ...]:
    """Parts of a combination as they are written; a name that stands for itself is its only part.

    Parameters
    ----------
    name
        Of a perturbation.
    separator
        Between parts; empty means that there are no combinations.
    whole
        Names that may hold the separator, as genes do: ``"HLA-A"``. They are never cut.

    Examples
    --------
    >>> split_name("A + B", "+")
    ('A', 'B')
    >>> split_name("HLA-A-TP53", "-", whole={"HLA-A"})
    ('HLA-A', 'TP53')
    """
    if not separator or separator not in name or name in whole:
        return (name,)
    tokens = [token.strip() for token in name.split(separator)]
    if not all(tokens):
        return (name,)  # nothing stands on one side, so it is no combination
    parts: list[str] = []
    while tokens:
        length = next(n for n in range(len(tokens), 0, -1) if n == 1 or separator.join(tokens[:n]) in whole)
        parts.append(separator.join(tokens[:length]))
        tokens = tokens[length:]
    return tuple(parts)


@dataclass(frozen=True)
class NameRule:
    """How the names of one screen are read.

    Parameters
    ----------
    control
        Category of the unperturbed cells.
    separator
        Between the parts of a combination.
    whole
        Names that are never cut: the genes.

    Raises
    ------
    ValueError
        If the separator is not text.

    Examples
    --------
    >>> rule = NameRule("NT")
    >>> rule.key("B+A") == rule.key("A+B"), rule.clean("ctrl+A"), rule.clean("A+A"), rule.clean("NT+NT")
    (True, 'A', 'A', 'NT')
    """

    control: str = "control"
    separator: str = "+"
    whole: Container[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.separator, str):
            msg = f"The separator of combinations must be text, such as '+', got {_shown(self.separator)}."
            raise ValueError(msg)

    def written(self, name: str) -> tuple[str, ...]:
        """Parts as they are written, but for control."""
        name = str(name)
        if name == self.control:
            return (name,)
        parts = split_name(name, self.separator, _Either(self.whole, self.control))
        if len(parts) > 1:
            parts = tuple(part for part in parts if part not in (self.control, *CONTROL_WORDS)) or (self.control,)
        return parts

    def parts(self, name: str) -> tuple[str, ...]:
        """What is perturbed: two guides against one gene are one perturbation."""
        return tuple(dict.fromkeys(self.written(name)))

    def clean(self, name: str) -> str:
        """The name without control and repeats, its parts in the order in which they are written."""
        return self.separator.join(self.parts(name))

    def key(self, name: str) -> tuple[str, ...]:
        """The same for all names of one perturbation."""
        return tuple(sorted(self.parts(name)))

    def repeats(self, name: str) -> bool:
        """Whether a part is written more than once."""
        return len(self.parts(name)) < len(self.written(name))


@dataclass(frozen=True)
class _Either:
    names: Container[str]
    name: str

    def __contains__(self, other: object) -> bool:
        return other == self.name or other in self.names


def canonical_names(sizes: Mapping[str, int], rule: NameRule) -> dict[str, str]:
    """The one name of every label: of those that mean the same perturbation, the one that most cells have.

    Parameters
    ----------
    sizes
        Cells of every label.
    rule
        How labels are read.

    Examples
    --------
    >>> canonical_names({"A+B": 3, "B+A": 7, "A+ctrl": 2}, NameRule())
    {'A+B': 'B+A', 'B+A': 'B+A', 'A+ctrl': 'A'}
    """
    spelled: dict[tuple[str, ...], dict[str, int]] = {}
    for label, size in sizes.items():
        by_spelling = spelled.setdefault(rule.key(label), {})
        name = rule.clean(label)
        by_spelling[name] = by_spelling.get(name, 0) + size
    chosen = {key: min(names, key=lambda name: (-names[name], name)) for key, names in spelled.items()}
    return {label: chosen[rule.key(label)] for label in sizes}


def close_names(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """Known names that are meant where one is misspelt, also in another case or with blanks; the closest first.

    Examples
    --------
    >>> close_names("myc ", ["MYC", "MYCN", "SPI1"])
    ['MYC', 'MYCN']
    """
    folded: dict[str, str] = {}
    for one in known:
        folded.setdefault(folded_name(one), one)
    close = difflib.get_close_matches(folded_name(name), list(folded), n=n)
    return [folded[one] for one in close]


def folded_name(name: str) -> str:
    """The name without blanks and case.

    Examples
    --------
    >>> folded_name("Spi 1")
    'spi1'
    """
    return "".join(str(name).split()).casefold()


def meant(name: str, known: Iterable[str]) -> str:
    """A sentence that asks whether close names are meant, with a blank before it; nothing where there are none.

    Examples
    --------
    >>> meant("SP1", ["SPI1", "MYC"])
    " Did you mean 'SPI1'?"
    >>> meant("X", ["SPI1", "MYC"])
    ''
    """
    close = close_names(name, known)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def meant_of(name: str, groups: Mapping[str, Iterable[str]]) -> str:
    """The same of several kinds of names, each said to be what it is: a perturbation is not offered as a gene.

    Examples
    --------
    >>> meant_of("SP1", {"gene": ["SPI1"], "perturbation": ["MYC"]})
    " Did you mean the gene 'SPI1'?"
    """
    owner: dict[str, str] = {}
    for kind, names in groups.items():
        for one in names:
            owner.setdefault(one, kind)
    close = close_names(name, owner)
    return f" Did you mean {' or '.join(f'the {owner[one]} {one!r}' for one in close)}?" if close else ""
