"""What the gene lists of left-out references were worth, each made by the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbdiffusion.inference._discoveries import DiscoveryRule
    from dbdiffusion.inference._rectifier import Rectifier
    from dbdiffusion.inference._references import References

LEVELS = (0.05, 0.1, 0.2)


def left_out_lists(
    rule: DiscoveryRule,
    rectifier: Rectifier,
    references: References,
    listable: np.ndarray,
    halves: Any = None,
    levels: Sequence[float] = LEVELS,
) -> pd.DataFrame:
    """Length and errors of the lists of references, as if each were the target.

    A gene whose observed sign is not the predicted one counts twice, as in :func:`fit_discoveries`: where nothing changed, the
    sign of the observation is wrong half of the time.

    Parameters
    ----------
    rule
        Of all references.
    rectifier, references, listable, halves
        As it was fitted, see :func:`discoveries_of`.
    levels
        Of the lists.

    Returns
    -------
    DataFrame
        One row a level: ``n_listed`` (median), ``share_empty``, ``wrong`` (mean share, an empty list counted as right),
        ``wrong_se``, ``wrong_if_any`` (of lists that are not empty), ``pooled`` (of all listed genes), ``least_promise``.

    Examples
    --------
    >>> from dbdiffusion.inference import References, discoveries_of, fit_rectifier
    >>> truth, listable = np.random.default_rng(0).standard_normal((40, 60)), np.ones(60, dtype=bool)
    >>> references = References(truth, np.zeros((40, 60)), np.zeros(60), {"exact": truth})
    >>> rectifier = fit_rectifier(references)
    >>> rule = discoveries_of(rectifier, references, listable, None)
    >>> left_out_lists(rule, rectifier, references, listable)[["n_listed", "wrong"]].loc[0.1].tolist()
    [60.0, 0.0]
    """
    rows = np.flatnonzero(rectifier.spread_from)
    counted = (listable & ~references.is_own_gene)[rows]
    predicted = rectifier.loo_predicted[rows]
    coherence = None if references.coherence is None else references.coherence[rows]
    wrong = wrongness(rectifier, references, halves)[rows]
    q = rule.left_out_q_values(predicted, counted, coherence)
    table = {}
    for level in levels:
        listed = q <= level
        n = listed.sum(axis=1)
        n_wrong = np.where(listed, wrong, 0).sum(axis=1)
        share = n_wrong / np.maximum(n, 1)
        table[level] = {
            "n_listed": float(np.median(n)),
            "share_empty": float((n == 0).mean()),
            "wrong": float(share.mean()),
            "wrong_se": float(share.std(ddof=1) / np.sqrt(len(share))) if len(share) > 1 else np.nan,
            "wrong_if_any": float(share[n > 0].mean()) if n.any() else np.nan,
            "pooled": float(n_wrong.sum() / n.sum()) if n.any() else np.nan,
            "least_promise": rule.least_promise,
        }
    return pd.DataFrame(table).T.rename_axis("level")


def wrongness(rectifier: Rectifier, references: References, halves: Any = None) -> np.ndarray:
    """Twice the share (K, G), over halves of the control cells, of signs in which prediction and observation differ.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier
    >>> truth = np.random.default_rng(0).standard_normal((20, 30))
    >>> references = References(truth, np.zeros((20, 30)), np.zeros(30), {"exact": truth})
    >>> float(wrongness(fit_rectifier(references), references).max())
    0.0
    """
    shifts = [(0.0, 0.0)] if halves is None else list(halves.shifts())
    wrong = np.zeros(references.effect.shape)
    for mine, others in shifts:
        moved = rectifier.loo_predicted + rectifier.control_weight * mine
        wrong += 2 * (np.sign(moved) * (references.effect + others) <= 0) / len(shifts)
    return wrong
