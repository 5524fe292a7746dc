"""What an interval would have said of every reference, had it been the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.inference._estimate import Estimate
from dbdiffusion.inference._moderation import fit_error_law
from dbdiffusion.inference._rectifier import MIN_REFERENCES_FOR_SHAPE

if TYPE_CHECKING:
    from dbdiffusion.inference._rectifier import Rectifier
    from dbdiffusion.inference._references import References

N_GROUPS = 5


def leave_one_out(rectifier: Rectifier, references: References) -> Estimate:
    """Prediction intervals (K, G) of the references, each from what the others tell.

    Weights, shrinkage, reference set and the variance between perturbations are those found without the reference; the
    shape of the error law is fitted without its fifth of the references. Compare with observed effects, to whose noise
    (:meth:`References.known_noise`) they add.

    Parameters
    ----------
    rectifier
        Fitted to ``references``.
    references
        At least ten; with fewer the law is that of all of them.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier
    >>> rng = np.random.default_rng(0)
    >>> seen = rng.standard_normal((20, 50))
    >>> references = References(seen, np.zeros((20, 50)), np.zeros(50), {"useless": rng.standard_normal((20, 50))})
    >>> low, high = leave_one_out(fit_rectifier(references), references).interval(0.8)
    >>> bool(0.75 < ((low < seen) & (seen < high)).mean() < 0.85)
    True
    """
    n, n_genes = rectifier.loo_error.shape
    se, df = np.empty((n, n_genes)), np.empty((n, n_genes))
    group, noise = np.arange(n) % N_GROUPS, rectifier.known_noise(references)
    for g in np.unique(group):
        inside, others = group == g, group != g
        law = rectifier.law
        others = others & rectifier.spread_from
        if rectifier.spread_from.sum() >= MIN_REFERENCES_FOR_SHAPE:
            law = fit_error_law(
                rectifier.loo_error[others],
                rectifier.loo_between[others],
                rectifier.loo_predicted[others],
                noise[others],
            )
        se[inside] = np.sqrt(law.variance(rectifier.loo_between[inside], rectifier.loo_predicted[inside]))
        df[inside] = law.df
    return Estimate(rectifier.loo_predicted, se, df)
