"""All questions that can be asked of a screen: of a model, or of a model inside one of its contexts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dbdiffusion.model._directions import DirectionsMixin
from dbdiffusion.screen import one_name


class Questions(DirectionsMixin):
    """Answered by the :class:`~dbdiffusion.predict.Predictor` that :meth:`predictor` returns."""

    def perturbation_embeddings(self) -> pd.DataFrame:
        """Embeddings (perturbations, E): control, measured, then added ones. Needs stage two.

        Examples
        --------
        >>> table = model.perturbation_embeddings()
        >>> table.index[0], table.shape == (1 + len(model.perturbation_names), 6)
        ('control', True)
        """
        predictor, names = self.predictor(), self.perturbation_names
        rows = np.vstack([predictor.space.control, predictor.space.embed(names)])
        columns = [f"E{i + 1}" for i in range(rows.shape[1])]
        return pd.DataFrame(rows, index=[predictor.screen.control, *names], columns=columns)

    def embedding_scores(self) -> pd.DataFrame:
        """Left-out error of every strategy for unseen perturbations, best first. Needs stage two.

        Every measured perturbation is placed by gene space, principal components and regressions that its fold had no part
        in. ``relative_to_mean`` is the squared error over that of the mean of the others, ``se`` its standard error.

        Examples
        --------
        >>> scores = model.embedding_scores()
        >>> bool(scores["relative_to_mean"].is_monotonic_increasing)
        True
        """
        return self.predictor().left_out.scores()

    def strategy_of(self, name: str) -> str:
        """How a perturbation is placed: ``"measured"``, or its strategies, one a part.

        Examples
        --------
        >>> model.strategy_of(model.perturbation_names[0])
        'measured'
        """
        return self.predictor().space.strategy_of(self._canonical([one_name(name)])[0])

    def parts_of(self, name: str) -> tuple[str, ...]:
        """Parts of a combination; a single perturbation is its only part.

        Examples
        --------
        >>> model.parts_of("GENE00+GENE01")
        ('GENE00', 'GENE01')
        """
        return self.predictor().space.parts(self._canonical([one_name(name)])[0])

    def baseline_effects(self, name: str) -> dict[str, np.ndarray]:
        """Simple predictions (G,) of an unseen perturbation, from measured ones alone.

        ``mean`` of the measured perturbations, ``zero``, and ``ridge`` regression from gene space to effects (for a
        combination of measured parts the sum of their effects); the mean again where gene space cannot place it.

        Examples
        --------
        >>> sorted(model.baseline_effects(unseen[0]))
        ['mean', 'ridge', 'zero']
        """
        return self.predictor().baselines(self._canonical([one_name(name)])[0])

    def control_variance(self) -> np.ndarray:
        """Sampling variance (G,) of the control mean, which all observed effects share. Needs stage two.

        Examples
        --------
        >>> model.control_variance().shape == (adata.n_vars,)
        True
        """
        return self.predictor().screen.observed.control_variance.mean(axis=0)
