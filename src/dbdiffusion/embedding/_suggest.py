r"""Which perturbations to measure next: those that stand for as many unmeasured ones as possible.

An unmeasured perturbation is predicted from measured ones in proportion to the cosine of their vectors. So a set S of measured
perturbations covers candidate j as well as its nearest member does, and is worth

.. math:: f(S) = \sum_j w_j \max_{s \in S} \max(0, \cos(v_s, v_j)).

This is facility location, which is submodular: taking again and again the perturbation that adds most is within
:math:`1 - 1/e` of the best set of its size.

References
----------
Nemhauser, Wolsey & Fisher, Math Program 14 (1978).
"""

from __future__ import annotations

import numpy as np

from dbdiffusion.screen import unit

CHUNK = 2000  # candidates whose cosines are held at once, beside those that are covered


def facility_location(
    candidates: np.ndarray, measured: np.ndarray, n: int, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Choose candidates greedily so that candidates are covered by what is then measured.

    Parameters
    ----------
    candidates
        (C, R) vectors.
    measured
        (K, R) vectors of what is measured already; may be empty.
    n
        To choose, at most C.
    weight
        (C,) how much it is worth to cover each, not negative; None covers all alike.

    Returns
    -------
    tuple
        Indices (n,) in the order of choice, and what each adds, (n,), which falls.

    Examples
    --------
    >>> vectors = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [1.0, 0.1]])
    >>> chosen, gain = facility_location(vectors, np.empty((0, 2)), 2)
    >>> chosen.tolist()
    [1, 3]
    """
    theirs = unit(np.asarray(candidates, dtype=float))
    weight = np.ones(len(theirs)) if weight is None else np.asarray(weight, dtype=float)
    covered = np.zeros(len(theirs))
    for start in range(0, len(measured), CHUNK):
        cosine = theirs @ unit(np.asarray(measured[start : start + CHUNK], dtype=float)).T
        covered = np.maximum(covered, cosine.max(axis=1, initial=0))
    bound = np.full(len(theirs), np.inf)  # gains only fall, so an old one bounds the new
    chosen, gains = [], []
    for _ in range(n):
        best, most = -1, -1.0
        order = np.argsort(-bound, kind="stable")
        step = 1 if np.isfinite(bound[order[0]]) else CHUNK
        for start in range(0, len(order), step):
            rows = order[start : start + step]
            if bound[rows[0]] <= most:
                break
            rows = rows[bound[rows] > most]
            bound[rows] = weight @ np.maximum(theirs @ theirs[rows].T - covered[:, None], 0)
            top = rows[int(np.argmax(bound[rows]))]
            if bound[top] > most:
                best, most = int(top), float(bound[top])
        chosen.append(best)
        gains.append(most)
        covered = np.maximum(covered, theirs @ theirs[best])
        bound[best] = -np.inf
    return np.array(chosen, dtype=int), np.array(gains)
