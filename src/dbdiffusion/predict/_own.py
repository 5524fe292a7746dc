"""Predictions of other models, brought as tables: stacked, rectified and calibrated beside ours."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from dbdiffusion.inference import check_left_out
from dbdiffusion.screen import NameRule, effect_table, meant

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from dbdiffusion.predict._predictor import Predictor


@dataclass(frozen=True, eq=False)
class OwnTable:
    """Predicted effects by name, the parts of a combination in any order.

    Parameters
    ----------
    effects
        Names x genes, genes in the order of the screen.
    rule
        How names are read.

    Examples
    --------
    >>> import pandas as pd
    >>> table = OwnTable(pd.DataFrame([[1.0, 2.0]], index=["A+B"], columns=["g", "h"]), NameRule())
    >>> table.holds("B+A"), table.of(["B+A"]).tolist()
    (True, [[1.0, 2.0]])
    """

    effects: pd.DataFrame
    rule: NameRule

    @cached_property
    def _rows(self) -> dict[tuple[str, ...], int]:
        return {self.rule.key(name): row for row, name in enumerate(self.effects.index)}

    def holds(self, name: str) -> bool:
        """Whether a perturbation is predicted."""
        return self.rule.key(name) in self._rows

    def of(self, names: Sequence[str]) -> np.ndarray:
        """Effects (n, G)."""
        return self.effects.to_numpy()[[self._rows[self.rule.key(name)] for name in names]]


def own_table(predictor: Predictor, name: str, effects: Any, rule: NameRule) -> tuple[OwnTable, float]:
    """A table of another model's predictions, checked, and its squared error on the references over their noise.

    Raises
    ------
    TypeError, ValueError, KeyError
        If it is no table of all genes, lacks a reference, or knows what it predicts.

    Examples
    --------
    >>> import pandas as pd
    >>> from dbdiffusion.screen import NameRule
    >>> predictor = model.predictor()
    >>> noise = np.random.default_rng(0).normal(size=(len(predictor.screen.names), adata.n_vars))
    >>> effects = pd.DataFrame(noise, index=predictor.screen.names, columns=adata.var_names)
    >>> table, error = own_table(predictor, "noise", effects, NameRule())
    >>> bool(error > 1)
    True
    """
    screen = predictor.screen
    table = OwnTable(effect_table(effects, f"The predictions of {name!r}", rule, list(map(str, screen.var_names))), rule)
    rows = np.flatnonzero(screen.observed.has_variance)
    absent = [screen.names[row] for row in rows if not table.holds(screen.names[row])]
    if absent:
        msg = (
            f"The predictions of {name!r} lack {len(absent)} of {len(rows)} measured perturbations, {absent[:5]}. Every one is "
            "a reference and must be predicted as if it had not been measured: leave a fold of perturbations out, train on the "
            "others, predict the fold."
        )
        raise KeyError(msg)
    names = [screen.names[row] for row in rows]
    own = np.zeros((len(rows), len(screen.var_names)), dtype=bool)
    for hit, one in zip(own, names, strict=True):
        hit[predictor.space.own_genes(one)] = True
    seen, predicted = (np.where(own, 0, values) for values in (screen.observed.effect[rows], table.of(names)))
    return table, check_left_out(predicted, seen, np.where(own, 0, screen.observed.variance[rows]), name)


def check_predicted(predictor: Predictor, names: Sequence[str]) -> None:
    """Raise unless every added predictor predicts every name.

    Raises
    ------
    KeyError
        Otherwise.
    """
    for own, table in predictor.own.items():
        absent = [name for name in names if not table.holds(name)]
        if absent:
            near = meant(absent[0], list(table.effects.index))
            msg = (
                f"{absent[:3]} have no row in the predictions of {own!r}.{near} Add them to its table, or take it away with "
                f"`model.remove_predictor({own!r})`."
            )
            raise KeyError(msg)
