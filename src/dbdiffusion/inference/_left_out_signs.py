"""Are the signs of left-out references wrong as often as it was said, each said by the others?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion.inference._rectifier import MIN_REFERENCES_FOR_SHAPE
from dbdiffusion.inference._signs import Signs, fit_sign_law, sign_rates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbdiffusion.inference._rectifier import Rectifier
    from dbdiffusion.inference._signs import SignLaw

N_GROUPS = 5
EDGES = np.linspace(0, 0.5, 11)  # of ten classes of lfsr


def left_out_signs(signs: Signs) -> pd.DataFrame:
    """Reliability of the local false sign rate: how often observed signs differ, beside how often they should.

    The sign law is fitted without a fifth of the references and asked about these. The truth is not known: an observation
    differs where the predicted sign is wrong, and by its own noise. ``expected`` reckons with both.

    Parameters
    ----------
    signs
        Of the references, see :func:`signs_of`; fewer than ten tell no law.

    Returns
    -------
    DataFrame
        One row a class of ``lfsr_from`` to ``lfsr_to``: ``n_references`` and ``n_signs`` in it, mean ``lfsr``, and the
        ``expected`` and ``observed`` share of signs that differ, with the standard error over references ``observed_se`` of
        their difference. NaN in classes without any.

    Examples
    --------
    >>> rng, n = np.random.default_rng(0), 20_000
    >>> predicted, one = np.abs(rng.normal(0, 2, n)), np.ones(n)
    >>> effect = np.where(rng.uniform(size=n) < 0.3, 0, predicted) + rng.standard_normal(n)
    >>> signs = Signs(np.arange(n) % 40, predicted, effect + rng.standard_normal(n), one, 0 * one, one)
    >>> table = left_out_signs(signs)
    >>> bool((table["observed"] - table["expected"]).abs().max() < 0.05)
    True
    """
    said, expected = (np.full(len(signs.reference), np.nan) for _ in range(2))
    for members, law in _of_others(signs):
        inside = np.isin(signs.reference, members)
        of = signs.subset(inside)
        said[inside] = law.wrong(of.predicted, of.between, of.carried)
        expected[inside] = law.wrong(of.predicted, of.between, of.noise)
    of_class = np.where(np.isnan(said), -1, np.digitize(said, EDGES[1:-1]))
    rows = [
        _of_class(*(values[of_class == k] for values in (signs.reference, said, expected, signs.disagrees)))
        for k in range(len(EDGES) - 1)
    ]
    return pd.DataFrame(rows).assign(lfsr_from=EDGES[:-1], lfsr_to=EDGES[1:])[
        ["lfsr_from", "lfsr_to", "n_references", "n_signs", "lfsr", "expected", "observed", "observed_se"]
    ]


def left_out_lfsr(rectifier: Rectifier, signs: Signs) -> np.ndarray:
    """Local false sign rates (K, G) of the references as if they were targets, by a sign law that the others tell.

    Parameters
    ----------
    rectifier
        Fitted.
    signs
        Of its references, see :func:`signs_of`; references without any have NaN.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier, signs_of
    >>> rng, G = np.random.default_rng(0), 60
    >>> seen = rng.standard_normal((40, G))
    >>> references = References(seen, np.zeros((40, G)), np.zeros(G), {"some": seen + rng.standard_normal((40, G))})
    >>> rectifier = fit_rectifier(references)
    >>> lfsr = left_out_lfsr(rectifier, signs_of(rectifier, references, np.ones(G, dtype=bool)))
    >>> wrong = np.sign(rectifier.loo_predicted) != np.sign(seen)
    >>> bool(abs(lfsr.mean() - wrong.mean()) < 0.03)
    True
    """
    lfsr = np.full(rectifier.loo_predicted.shape, np.nan)
    for members, law in _of_others(signs):
        lfsr[members] = sign_rates(law, rectifier, rectifier.loo_predicted[members], rectifier.loo_between[members])
    return lfsr


def _of_others(signs: Signs) -> Iterator[tuple[np.ndarray, SignLaw]]:
    """A fifth of the references, and the law that the others tell."""
    reference = np.unique(signs.reference)
    if len(reference) < MIN_REFERENCES_FOR_SHAPE:
        return
    for group in range(N_GROUPS):
        members = reference[group::N_GROUPS]
        law = fit_sign_law(signs.subset(~np.isin(signs.reference, members)), least=1)
        if law is not None:
            yield members, law


def _of_class(reference: np.ndarray, said: np.ndarray, expected: np.ndarray, disagrees: np.ndarray) -> dict[str, float]:
    n = len(said)
    if n == 0:
        return {"n_references": 0, "n_signs": 0, "lfsr": np.nan, "expected": np.nan, "observed": np.nan, "observed_se": np.nan}
    difference = disagrees - expected
    of_each = np.bincount(reference, difference - difference.mean())
    return {
        "n_references": len(np.unique(reference)),
        "n_signs": n,
        "lfsr": float(said.mean()),
        "expected": float(expected.mean()),
        "observed": float(disagrees.mean()),
        "observed_se": float(np.sqrt((of_each**2).sum()) / n),
    }
