"""Why a perturbation cannot be placed, in words that say the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbdiffusion.screen import meant_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_SHOWN = 5  # names


def not_placed(
    name: str, measured: Iterable[str], genes: Iterable[str], vectors: Iterable[str], others: Sequence[str] = ()
) -> KeyError:
    """Nothing is known of a name, nor of the others; close ones are named as what they are.

    Examples
    --------
    >>> "GATA1" in str(not_placed("GATA", [], ["GATA1", "MYC"], []))
    True
    """
    hint = meant_of(name, {"measured perturbation": measured, "gene": genes, "vector of": vectors})
    shown = ", ".join(map(repr, others[:MOST_SHOWN])) + (f" and {len(others) - MOST_SHOWN} more" if others[MOST_SHOWN:] else "")
    same = f" The same holds of {shown}." if others else ""
    return KeyError(
        f"{name!r} was not measured, is not among the measured genes and has no vector of your own, so nothing places "
        f"it.{hint} Either give it a vector (`embedding_key` in `setup_anndata`, or `add_perturbations`), or keep its "
        f"gene among the measured genes.{same}"
    )


def too_few(strategy: str, n: int, least: int) -> ValueError:
    """A strategy knows the name, but has too few measured perturbations to learn from.

    Examples
    --------
    >>> str(too_few("ridge", 1, 2))[:52]
    "Strategy 'ridge' needs at least 2 measured perturbat"
    """
    return ValueError(
        f"Strategy {strategy!r} needs at least {least} measured perturbations with a vector, got {n}. Give vectors for the "
        "measured perturbations (`embedding_key`), or use strategy 'mean'."
    )
