"""The rectifier fitted anew on a model's left-out references, as a benchmark likes, and what it then says of targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbdiffusion.predict import GENERATED, Predictor, Recipe, predictions, references_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbdiffusion.inference import Estimate, Rectifier, References

    Fit = Callable[[References], Rectifier]


class Rectified:
    """References and predictions are made once; :meth:`estimate` tunes on them.

    Parameters
    ----------
    predictor
        Of the screen.
    targets
        Unseen, of one kind (single perturbations or combinations).
    recipe
        How references and targets are predicted.
    """

    def __init__(self, predictor: Predictor, targets: list[str], recipe: Recipe) -> None:
        pool = predictor.references(recipe)
        members = pool.select(combination=len(predictor.space.parts(targets[0])) > 1)
        self.as_observed = references_of(predictor, pool, members)
        self.references = self.as_observed.corrected()
        self.predicted, self.noise = predictions(predictor, predictor.generator, [(predictor.space, targets)], recipe)

    def estimate(self, fit: Fit, references: References | None = None) -> tuple[Estimate, float]:
        """Of all targets (T, G), and the generator's weight; by other references made of ``as_observed`` if given."""
        references = self.references if references is None else references
        rectifier = fit(references)
        weight = rectifier.weights.get(GENERATED, 0.0)
        return rectifier.estimate(references.of_targets(self.predicted), weight**2 * self.noise), weight
