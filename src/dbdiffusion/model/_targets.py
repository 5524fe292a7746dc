"""Names of targets, whatever they come in, and whether they can be answered: known before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi import REGISTRY_KEYS

from dbdiffusion._keys import REGISTRY
from dbdiffusion.data import PerturbationField
from dbdiffusion.embedding import ALL_STRATEGIES, EffectSpace, PerturbationSpace
from dbdiffusion.screen import GeneSpace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scvi.model import SCVI as _Base
else:
    _Base = object


class TargetsMixin(_Base):
    """``check_targets``."""

    contexts: tuple[str, ...]
    strategy: str

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
        names = target_names(targets)
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
            self._user_vectors(),  # type: ignore[attr-defined]
            separator,
            (self.strategy,),
            places_anything=self.strategy == "mean",
        )
        if self.strategy != "auto":
            return space
        return space.with_ranking([s for s in ALL_STRATEGIES if space.can_learn(s)] or ["ridge"])


def target_names(targets: Any) -> list[str]:
    """Names in the order given, whatever holds them: text, a list, an array, a Series, an index, a generator.

    Raises
    ------
    ValueError
        Unless they are names, at least one.

    Examples
    --------
    >>> target_names("A"), target_names(np.array(["B", "A"])), target_names({"B", "A"})
    (['A'], ['B', 'A'], ['A', 'B'])
    """
    if isinstance(targets, np.ndarray) and targets.ndim == 0:
        targets = targets.item()
    listed = [targets] if isinstance(targets, str) else targets
    names = list(listed) if isinstance(listed, Iterable) and not isinstance(listed, bytes | Mapping | pd.DataFrame) else []
    if not names or not all(isinstance(name, str) for name in names):
        msg = f"`targets` must be the name of a perturbation or a list of names, at least one, got {_shown(targets)}."
        raise ValueError(msg)
    names = [str(name) for name in names]  # numpy's strings have another `repr`
    return sorted(names) if isinstance(targets, set | frozenset) else names


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


def _shown(targets: Any, most: int = 200) -> str:
    text = repr(targets)
    return text if len(text) <= most else f"{text[:most]}…"
