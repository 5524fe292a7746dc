"""Power tuning: weights of the predictors and shrinkage of the rectifier's mean, by leave-one-out risk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize

from dbdiffusion.inference._references import mean_of_others

if TYPE_CHECKING:
    from dbdiffusion.inference._references import References

RHO_GRID = tuple(np.linspace(0, 1, 11))


@dataclass(frozen=True)
class Tuned:
    """What the references ask for.

    Parameters
    ----------
    rho
        Weight of the rectifier's mean.
    weight
        (Q,) of the predictors.
    risk
        Summed over references and genes, against the truth.
    """

    rho: float
    weight: np.ndarray
    risk: float


class Tuning:
    """Risk of (rho, w) against the truth, summed over genes, from Gram matrices: nothing of size K x G per candidate.

    Parameters
    ----------
    references
        Own genes filled.
    lam
        Weight of the first predictor if not to be tuned; the others then have none, and ``rho`` is one unless given.
    rho
        Weight of the rectifier's mean if not to be tuned.
    """

    def __init__(self, references: References, lam: float | None = None, rho: float | None = None) -> None:
        self._references = references
        self._n = len(references.effect)
        self._lam = lam
        self._rhos = (rho,) if rho is not None else (1.0,) if lam is not None else RHO_GRID
        self._control = references.likely_control_norm
        shares = zip(references.predicted.values(), references.control_shares, strict=True)
        self._agreement = np.array([references.likely_agreement(predicted, share) for predicted, share in shares])
        width = 1 + len(references.predicted)
        self._own = np.zeros((self._n, width, width))
        self._cross, self._mean = np.zeros_like(self._own), np.zeros_like(self._own)
        for _, vectors in references.gene_chunks():
            means = mean_of_others(vectors)
            cross = _gram(vectors, means)
            self._own += _gram(vectors, vectors)
            self._cross += cross + cross.transpose(0, 2, 1)
            self._mean += _gram(means, means)
        self._sums = tuple(gram.sum(axis=0) for gram in (self._own, self._cross, self._mean))

    def choose(self, without: int | None = None) -> Tuned:
        """The candidate of least risk, optionally without one reference."""
        return min((self._tune(rho, without) for rho in self._rhos), key=lambda tuned: tuned.risk)

    @cached_property
    def chosen_without(self) -> tuple[Tuned, ...]:
        """The choice (K,) without each reference."""
        return tuple(self.choose(without=i) for i in range(self._n))

    def leave_one_out_errors(self) -> np.ndarray:
        """Error (K, G) of every reference, predicted by the others with a choice made on the others."""
        chosen = self.chosen_without
        rho = np.array([tuned.rho for tuned in chosen])[:, None]
        coefficient = np.stack([np.concatenate([[1.0], -tuned.weight]) for tuned in chosen]).T[:, :, None]
        errors = np.empty(self._references.effect.shape, dtype=self._references.effect.dtype)
        for genes, vectors in self._references.gene_chunks():
            errors[:, genes] = (coefficient * (vectors - rho * mean_of_others(vectors))).sum(axis=0)
        return errors

    def _tune(self, rho: float, without: int | None) -> Tuned:
        total = self._left_out_gram(rho, None)
        if without is not None:
            total = total - self._left_out_gram(rho, without)
        count = self._n - (without is not None)
        quadratic, linear = total[1:, 1:], total[1:, 0] - count * (1 - rho) * self._agreement
        weight = _only_first(len(linear), self._lam) if self._lam is not None else _non_negative_minimum(quadratic, linear)
        risk = total[0, 0] - 2 * weight @ linear + weight @ quadratic @ weight + 2 * count * rho * self._control
        return Tuned(float(rho), weight, float(risk))

    def _left_out_gram(self, rho: float, row: int | None) -> np.ndarray:
        """Inner products of vectors minus rho times the mean of the others, of one reference or summed over all."""
        own, cross, mean = self._sums if row is None else (gram[row] for gram in (self._own, self._cross, self._mean))
        return own - rho * cross + rho**2 * mean


def _gram(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Inner products over genes, (A, K, G) and (B, K, G) to (K, A, B)."""
    return (first.transpose(1, 0, 2) @ second.transpose(1, 2, 0)).astype(float)


def _only_first(n: int, lam: float) -> np.ndarray:
    return lam * np.eye(1, n)[0]


def _non_negative_minimum(quadratic: np.ndarray, linear: np.ndarray) -> np.ndarray:
    """Minimiser of w'Aw - 2 w'b over w >= 0, with a whiff of ridge so that equal predictors share their weight."""
    if not np.trace(quadratic) > 0:  # no predictor says anything
        return np.zeros(len(linear))
    quadratic = quadratic + 1e-6 * np.trace(quadratic) * np.eye(len(linear))
    root = np.linalg.cholesky(quadratic)
    return optimize.nnls(root.T, np.linalg.solve(root, linear))[0]
