"""What targets would be predicted had each reference not been measured, along a direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbdiffusion.inference._rectifier import Rectifier
    from dbdiffusion.inference._references import References
    from dbdiffusion.inference._tuning import Tuned


@dataclass(frozen=True)
class LeftOutRules:
    """K rules of prediction, each without one reference.

    Weights, shrinkage and the rectifier's mean are those found without it; what the predictors say of targets stays.

    Parameters
    ----------
    rectifier
        Fitted to all references.
    references
        Own genes filled.
    chosen
        (K,) weights without each.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier
    >>> seen = np.random.default_rng(0).standard_normal((20, 30))
    >>> references = References(seen, np.zeros((20, 30)), np.zeros(30), {"exact": seen})
    >>> rules = left_out_rules(fit_rectifier(references), references)
    >>> len(rules.chosen)
    20
    """

    rectifier: Rectifier
    references: References
    chosen: tuple[Tuned, ...]

    @property
    def rows(self) -> np.ndarray:
        """Of the references whose errors tell how far a target may lie from its prediction."""
        return np.flatnonzero(self.rectifier.spread_from)

    def along(self, direction: np.ndarray, predicted: Mapping[str, np.ndarray]) -> np.ndarray:
        """Targets along a direction (T, references that count), predicted without each of them.

        Parameters
        ----------
        direction
            (G,) weights of the genes.
        predicted
            Predictor to (T, G), of the targets.

        Raises
        ------
        ValueError
            If the direction has not G weights.
        """
        n_genes = self.references.effect.shape[1]
        if np.shape(direction) != (n_genes,):
            msg = f"A direction must have one weight a gene, ({n_genes},), got shape {np.shape(direction)}."
            raise ValueError(msg)
        observed = self.references.effect @ direction
        ours = np.stack([values @ direction for values in self.references.predicted.values()])  # (Q, K)
        theirs = np.stack([predicted[name] @ direction for name in self.references.predicted])  # (Q, T)
        answer = np.empty((theirs.shape[1], len(self.rows)))
        for column, i in enumerate(self.rows):
            tuned = self.chosen[i]
            residual = np.delete(observed - tuned.weight @ ours, i)
            answer[:, column] = tuned.weight @ theirs + tuned.rho * residual.mean()
        return answer


def left_out_rules(rectifier: Rectifier, references: References) -> LeftOutRules:
    """What was tuned without each reference, as rules for targets.

    Parameters
    ----------
    rectifier, references
        Fitted, and what it was fitted on, three references at least.

    Raises
    ------
    ValueError
        If nothing was tuned, with fewer than three.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier
    >>> rng = np.random.default_rng(0)
    >>> seen = rng.standard_normal((20, 50))
    >>> references = References(seen, np.zeros((20, 50)), np.zeros(50), {"exact": seen})
    >>> rules = left_out_rules(fit_rectifier(references), references)
    >>> rules.along(np.ones(50), {"exact": rng.standard_normal((2, 50))}).shape
    (2, 20)
    """
    if not rectifier.loo_chosen:
        msg = f"Nothing can be tuned without one of {rectifier.n_reference} references: at least three are needed."
        raise ValueError(msg)
    return LeftOutRules(rectifier, references.without_own_genes(), rectifier.loo_chosen)
