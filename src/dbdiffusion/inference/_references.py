"""Reference perturbations: what was observed, what would have been predicted, and who is compared with whom."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_CHUNK = 2**24  # values in a chunk of genes


@dataclass(frozen=True)
class References:
    """K reference perturbations.

    Parameters
    ----------
    effect
        (K, G) observed.
    variance
        (K, G) sampling variance of the perturbation's own mean.
    control_variance
        (G,) sampling variance of the control mean, shared by all.
    predicted
        Predictor to (K, G), made as if the reference had not been measured.
    own_genes
        For every reference the columns of the genes it perturbs, which teach nothing about others.
    control_norm_cv
        Coefficient of variation of the squared norm, over genes, of the control's error.
    control_share
        Predictor to the share of the control's error that its predictions are taken to carry; 1, that of a mean of observed
        effects, if left out.
    placed
        (K,) whether something placed the reference; the others are predicted by the mean and say nothing of how far a placed
        target lies from its prediction. None: all are.
    coherence
        (K,) from 0 to 1, how much the neighbours of each agree; None where that is not known.
    part_variance
        (K, G) sampling variance of what predictions are made of: of a combination the sum over its measured parts, whose
        effects are added. It enters a prediction with the total weight of the predictors.
    """

    effect: np.ndarray
    variance: np.ndarray
    control_variance: np.ndarray
    predicted: dict[str, np.ndarray]
    own_genes: tuple[np.ndarray, ...] = ()
    control_norm_cv: float = 0.0
    control_share: Mapping[str, float] = field(default_factory=dict)
    placed: np.ndarray | None = None
    coherence: np.ndarray | None = None
    part_variance: np.ndarray | float = 0.0

    @property
    def likely_control_norm(self) -> float:
        """Squared norm that the control's error may well have: its expectation and one standard deviation.

        All references share that one error, so however many agree on a common effect, it may be the control's chance.
        """
        return float(self.control_variance.sum()) * (1 + self.control_norm_cv)

    @property
    def control_shares(self) -> np.ndarray:
        """``control_share`` of all predictors (Q,)."""
        return np.array([self.control_share.get(name, 1.0) for name in self.predicted])

    def likely_agreement(self, predicted: np.ndarray, share: float) -> float:
        """Inner product, a reference, that predictions (K, G) may well have with observed effects by the control's error alone.

        What they carry of it themselves, and one standard deviation of chance for what they do not: a mean prediction and
        that one error, which varies along so many directions as its norm's coefficient of variation tells.
        """
        along = self.control_norm_cv * np.sqrt(float(self.control_variance.sum()) / 2)
        by_chance = float(np.linalg.norm(predicted.mean(axis=0))) * along
        return share * self.likely_control_norm + max(1 - share, 0) * by_chance

    @property
    def is_own_gene(self) -> np.ndarray:
        """(K, G) whether a reference itself perturbs the gene."""
        hit = np.zeros(self.effect.shape, dtype=bool)
        for i, genes in enumerate(self.own_genes):
            hit[i, genes] = True
        return hit

    def without_own_genes(self) -> References:
        """The same with own genes replaced by the mean of those that do not hit them, observed and predicted alike."""
        if not any(map(len, self.own_genes)):
            return self
        hit = self.is_own_gene
        columns = np.flatnonzero(hit.any(axis=0))
        inside = hit[:, columns]
        predicted = {name: _fill(values, columns, inside) for name, values in self.predicted.items()}
        return replace(self, effect=_fill(self.effect, columns, inside), predicted=predicted, own_genes=())

    def with_predicted(self, predicted: dict[str, np.ndarray]) -> References:
        """The same with other predictions, by predictors of the same names."""
        return replace(self, predicted=predicted)

    def known_noise(self, control_weight: float, part_weight: float = 0.0) -> np.ndarray:
        """Known variance (K, G) of errors against observed effects.

        Own sampling noise, of the control's what the prediction does not carry, and that of the parts of a combination.
        """
        return self.variance + self.control_noise(control_weight) + part_weight**2 * self.part_variance

    def control_noise(self, control_weight: float) -> np.ndarray:
        """Of the control's variance (G,), what the prediction does not carry."""
        return (1 - control_weight) ** 2 * self.control_variance

    def gene_chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Slices of genes with observed effects and predictions stacked, (1 + Q, K, genes): never all genes at once."""
        n, n_genes = self.effect.shape
        step = max(1, MAX_CHUNK // ((1 + len(self.predicted)) * max(n, 1)))
        for start in range(0, n_genes, step):
            genes = slice(start, min(start + step, n_genes))
            yield genes, np.stack([self.effect[:, genes], *(values[:, genes] for values in self.predicted.values())])


def mean_of_others(values: np.ndarray) -> np.ndarray:
    """For every reference the mean over the others, (..., K, G) to (..., K, G).

    Examples
    --------
    >>> mean_of_others(np.array([[0.0], [1.0], [5.0]])).ravel()
    array([3. , 2.5, 0.5])
    """
    return (values.sum(axis=-2, keepdims=True) - values) / (values.shape[-2] - 1)


def _fill(values: np.ndarray, columns: np.ndarray, hit: np.ndarray) -> np.ndarray:
    filled = np.array(values)
    inside = filled[:, columns]
    mean = np.where(hit, 0, inside).sum(axis=0) / np.maximum((~hit).sum(axis=0), 1)
    filled[:, columns] = np.where(hit, mean, inside)
    return filled
