"""The published estimator, kept for comparison: it is not calibrated for a new perturbation."""

from __future__ import annotations

import numpy as np

from dbdiffusion.inference._estimate import Estimate


def paper_estimate(
    generated: np.ndarray, observed: np.ndarray, generated_references: np.ndarray, variance: np.ndarray
) -> Estimate:
    r"""Debiased mean of the located cluster's residuals, all weights one.

    :math:`\hat\theta = m_t + K^{-1} \sum_i (\delta_i - m_i)` with in-sample :math:`m_i`, and
    :math:`Var = K^{-2} \sum_i (s^2/n_i + t^2)`, :math:`t^2` the variance of the observed means between the K members of the
    cluster. Normal quantiles. This is the error of a cluster's mean, not of a new member, and covers a new perturbation too
    seldom (``benchmarks/coverage.py``). Source: Shang, Wei & Roeder, PNAS 122(52) e2525268122 (2025).

    Parameters
    ----------
    generated
        (G,) generated effect of the target.
    observed, generated_references, variance
        (K, G) observed effects, generated effects and sampling variances of the cluster's members.

    Examples
    --------
    >>> one = np.ones((2, 3))
    >>> paper_estimate(np.zeros(3), one, 0 * one, 2 * one).se
    array([1., 1., 1.])
    """
    n = len(observed)
    effect = generated + (observed - generated_references).mean(axis=0)
    between = observed.var(axis=0, ddof=1) if n > 1 else np.full(observed.shape[1], np.nan)
    se = np.sqrt((variance + between).sum(axis=0)) / n
    return Estimate(effect, se, np.full(effect.shape, np.inf))
