"""Genetic interactions of a screen: what its pairs do beyond the sum of their parts, and what they tell of others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion._words import say
from dbdiffusion.inference import adjust_p_values, interactions, unseen_along
from dbdiffusion.screen import norm_cv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.inference import Interactions
    from dbdiffusion.predict._predictor import Predictor


@dataclass(frozen=True)
class GeneticInteractions:
    """What pairs do beyond the sum of their parts.

    Parameters
    ----------
    pairs
        One row a pair: ``pair, status`` (``measured`` or ``unseen``)``, along`` (effect beyond the sum along the sum, as a
        share of it: below 0 buffering, 0 additive, above 0 synergistic)``, ci_low, ci_high, kind`` (``buffering``,
        ``synergistic``, ``additive`` or ``undecided``)``, size`` (length over genes of what is beyond the sum)``, p_value,
        q_value`` (of no interaction on any gene, Benjamini-Hochberg over pairs).
    genes
        One row a measured pair and gene: ``pair, variable, effect`` (beyond the sum, mean log1p CP10K)``, se, df, ci_low,
        ci_high, p_value, q_value`` (Benjamini-Hochberg within the pair).
    said
        What the measured pairs tell of unseen ones, and what they do not.

    Examples
    --------
    >>> interactions = model.interactions([f"{unseen[0]}+{unseen[1]}"])
    >>> len(interactions.pairs), len(interactions.genes)
    (1, 0)
    """

    pairs: pd.DataFrame
    genes: pd.DataFrame
    said: str


def interactions_of(predictor: Predictor, names: Sequence[str] | None = None, confidence: float = 0.95) -> GeneticInteractions:
    """See :meth:`DBDiffusion.interactions`.

    Raises
    ------
    ValueError
        If the screen has no measured pair with measured parts and none was named, or a name is no combination.
    KeyError
        If nothing places a part.

    Examples
    --------
    >>> interactions_of(model.predictor(), unseen)
    Traceback (most recent call last):
    ValueError: Interactions are of combinations, such as 'A+B', got ['...
    """
    predictor.check_current()
    space = predictor.space
    of_screen = [name for name in space.names if _parts_measured(predictor, name)]
    asked = of_screen if names is None else list(names)
    singles = [name for name in asked if len(space.parts(name)) < 2]
    if singles or not asked:
        got = f"got {singles[:3]}" if singles else "and this screen holds none whose parts were all measured"
        msg = f"Interactions are of combinations, such as 'A{space.separator or '+'}B', {got}."
        raise ValueError(msg)
    space.check_placed(asked)
    found = _found(predictor, of_screen)
    known = {name: i for i, name in enumerate(of_screen)}
    rows = [known.get(space.names[row]) if (row := space.row(name)) is not None else None for name in asked]
    measured = [(name, row) for name, row in zip(asked, rows, strict=True) if row is not None]
    incomplete = [name for name, row in zip(asked, rows, strict=True) if row is None and space.is_measured(name)]
    unseen = [name for name, row in zip(asked, rows, strict=True) if row is None and not space.is_measured(name)]
    shares = found.along.effect if found else np.empty(0)
    estimate, low, high, said = unseen_along(shares, len(unseen), confidence)
    blocks = []
    if measured and found:
        chosen = np.array([row for _, row in measured])
        ends = found.along.interval(confidence)
        q_value = adjust_p_values(found.p_value)
        blocks.append(pd.DataFrame({
            "pair": [name for name, _ in measured], "status": "measured", "along": found.along.effect[chosen],
            "ci_low": ends[0][chosen], "ci_high": ends[1][chosen],
            "kind": np.array(found.kinds(confidence), dtype=object)[chosen],
            "size": found.size[chosen], "p_value": found.p_value[chosen], "q_value": q_value[chosen],
        }))  # fmt: skip
    if incomplete:
        say(
            f"{len(incomplete)} combinations were measured and a part of them was not ({', '.join(incomplete[:3])}"
            f"{', ...' * (len(incomplete) > 3)}): nothing tells how far they are from the sum of their parts.",
            UserWarning,
        )
        nothing = dict.fromkeys(("along", "ci_low", "ci_high", "size", "p_value", "q_value"), np.nan)
        blocks.append(pd.DataFrame({"pair": incomplete, "status": "measured", **nothing, "kind": "undecided"}))
    if unseen:
        kind = np.where(high < 0, "buffering", np.where(low > 0, "synergistic", "undecided"))
        blocks.append(pd.DataFrame({
            "pair": unseen, "status": "unseen", "along": estimate.effect, "ci_low": low, "ci_high": high, "kind": kind,
            "size": np.nan, "p_value": np.nan, "q_value": np.nan,
        }))  # fmt: skip
    genes = _genes(predictor, measured, found, confidence) if measured and found else pd.DataFrame()
    return GeneticInteractions(pd.concat(blocks, ignore_index=True), genes, said)


def _parts_measured(predictor: Predictor, name: str) -> bool:
    parts = predictor.space.parts(name)
    return len(parts) > 1 and all(predictor.space.is_measured(part) for part in parts)


def _found(predictor: Predictor, names: list[str]) -> Interactions | None:
    if not names:
        return None
    space, screen = predictor.space, predictor.screen
    observed = screen.observed
    rows = [(space.row(name), [space.row(part) for part in space.parts(name)]) for name in names]
    df = np.broadcast_to(observed.df if observed.df.ndim > 1 else observed.df[:, None], observed.effect.shape)
    return interactions(
        observed.effect,
        observed.variance,
        observed.control_variance,
        df,
        observed.control_df,
        rows,  # type: ignore[arg-type]
        screen.halves,
        [space.own_genes(name) for name in names],
        norm_cv(observed.control_variance.mean(axis=0), screen.vectors),
    )


def _genes(predictor: Predictor, measured: list[tuple[str, int]], found: Interactions, confidence: float) -> pd.DataFrame:
    chosen = np.array([row for _, row in measured])
    estimate = found.genes.subset(chosen)
    low, high = estimate.interval(confidence)
    p_value = estimate.p_value()
    values = {
        "effect": estimate.effect, "se": estimate.se, "df": estimate.df, "ci_low": low, "ci_high": high, "p_value": p_value,
        "q_value": adjust_p_values(p_value),
    }  # fmt: skip
    table = pd.DataFrame({name: array.ravel() for name, array in values.items()})
    n_genes = len(predictor.screen.var_names)
    table.insert(0, "variable", np.tile(predictor.screen.var_names, len(measured)))
    table.insert(0, "pair", np.repeat([name for name, _ in measured], n_genes))
    return table
