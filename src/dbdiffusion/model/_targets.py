"""Names of targets, whatever they come in, and whether they can be answered: known before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from dbdiffusion._keys import REGISTRY
from dbdiffusion.data import PerturbationField
from dbdiffusion.embedding import ALL_STRATEGIES, EffectSpace, PerturbationSpace
from dbdiffusion.model._predictors import PredictorsMixin
from dbdiffusion.screen import GeneSpace, listed_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class TargetsMixin(PredictorsMixin):
    """``check_targets``."""

    def check_targets(self, targets: str | Sequence[str]) -> None:
        """Raise unless :meth:`predict_effects` has an answer for every target. Needs no training, so ask before it.

        Parameters
        ----------
        targets
            As there; measured or not.

        Raises
        ------
        KeyError
            If nothing places a target.
        ValueError
            If it is no list of names, control is among them, or the strategy has too little to learn from.

        Examples
        --------
        >>> from dbdiffusion import DBDiffusion, simulate_screen
        >>> adata = simulate_screen(n_genes=40, n_perturbations=6, n_cells_per_perturbation=20, n_control_cells=40)
        >>> DBDiffusion.setup_anndata(adata)
        >>> model = DBDiffusion(adata, n_folds=2)
        >>> model.check_targets(["GENE00", "GENE01+GENE02"])
        """
        names = listed_names(targets)
        state = self.registry_["field_registries"][REGISTRY.PERTURBATION]["state_registry"]
        check_not_control(names, state[PerturbationField.CONTROL])
        for measured in self._measured(state):
            self._prospect(measured, state[PerturbationField.SEPARATOR]).check_placed(names)

    def _measured(self, state: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
        """Names of the perturbations that have cells, in each context."""
        known = [str(name) for name in state[PerturbationField.WITH_CELLS] if name != state[PerturbationField.CONTROL]]
        if not self.contexts or self.adata_manager is None:
            yield tuple(known)
            return
        categories = np.asarray(state[PerturbationField.CATEGORICAL_MAPPING_KEY], dtype=str)
        names = categories[self.adata_manager.get_from_registry(REGISTRY.PERTURBATION).ravel().astype(int)]
        context = self.adata_manager.get_from_registry(REGISTRY.CONTEXT).ravel().astype(int)
        for code in range(len(self.contexts)):
            here = set(names[context == code])
            yield tuple(name for name in known if name in here)

    def _prospect(self, measured: tuple[str, ...], separator: str) -> PerturbationSpace:
        """The space as it will be, but without coordinates: what is measured, which genes there are, who has vectors."""
        genes = self.registry_["field_registries"][REGISTRY_KEYS.X_KEY]["state_registry"]["column_names"]
        nothing = np.zeros((len(genes), 1))
        space = PerturbationSpace(
            measured,
            np.zeros((len(measured), 1)),
            EffectSpace(nothing[:, 0], nothing[:, 0], nothing.T),
            GeneSpace(pd.Index(np.asarray(genes, dtype=str)), nothing),
            self._user_vectors(),
            separator,
            (self.strategy,),
            places_anything=self.strategy == "mean",
        )
        if self.strategy != "auto":
            return space
        return space.with_ranking([s for s in ALL_STRATEGIES if space.can_learn(s)] or ["ridge"])


def check_not_control(names: Sequence[str], control: str) -> None:
    """Raise if control is among the names.

    Raises
    ------
    ValueError
        Then.
    """
    if control in names:
        msg = f"Control {control!r} is what targets are compared with; leave it out of `targets`."
        raise ValueError(msg)
