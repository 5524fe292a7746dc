r"""Which perturbations to measure next: those that leave least uncertain of all that stay unmeasured.

An unmeasured perturbation is predicted from measured ones in proportion to the cosine of their vectors. So effects are taken as
a Gaussian process whose covariance is the cosine, and an observation of one as it and as much noise again. With unit vectors
:math:`u_j` in R dimensions and a set S of measured perturbations, candidate j has the variance

.. math:: \nu_j(S) = u_j^T M u_j, \qquad M = \Big(I + \sum_{s \in S} u_s u_s^T / \sigma^2\Big)^{-1}.

The candidate c is taken next that lessens :math:`\sum_j \nu_j` most, by :math:`\sum_j (u_j^T M u_c)^2 / (\nu_c + \sigma^2)`:
one that nobody knows, and that many others are like. Nothing is random, and what was observed does not matter, only where.

References
----------
Cohn, Ghahramani & Jordan, Active learning with statistical models, JAIR 4 (1996).
"""

from __future__ import annotations

import numpy as np

from dbdiffusion.screen import unit

NOISE = 1.0  # variance of an observation, over that of an effect


def most_informative(candidates: np.ndarray, measured: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose candidates one after the other, each so that least is left uncertain of all candidates.

    Parameters
    ----------
    candidates
        (C, R) vectors.
    measured
        (K, R) vectors of what is measured already; may be empty.
    n
        To choose, at most C.

    Returns
    -------
    tuple
        Indices (n,) in the order of choice, and the mean variance (n + 1,) of the candidates, before and after each: 1 where
        nothing is known, and it falls.

    Examples
    --------
    >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [1.0, 0.1]])
    >>> chosen, uncertainty = most_informative(vectors, np.empty((0, 2)), 2)
    >>> chosen.tolist(), uncertainty.round(2).tolist()
    ([1, 2], [1.0, 0.7, 0.5])
    """
    theirs, known = unit(np.asarray(candidates, dtype=float)), unit(np.asarray(measured, dtype=float))
    left = np.linalg.inv(np.eye(theirs.shape[1]) + known.T @ known / NOISE)
    alike = theirs.T @ theirs / max(len(theirs), 1)
    chosen: list[int] = []
    uncertainty = [float((alike * left).sum())]
    for _ in range(n):
        towards = theirs @ left
        worth = ((towards @ alike) * towards).sum(axis=1) / ((towards * theirs).sum(axis=1) + NOISE)
        worth[chosen] = -np.inf
        best = int(np.argmax(worth))
        left -= np.outer(towards[best], towards[best]) / (towards[best] @ theirs[best] + NOISE)
        chosen.append(best)
        uncertainty.append(float((alike * left).sum()))
    return np.array(chosen, dtype=int), np.array(uncertainty)
