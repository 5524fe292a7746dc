"""Predictors of a model, of the whole screen and of each context: made when they are asked for, forgotten in one place."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dbdiffusion._keys import REGISTRY
from dbdiffusion._words import known_word
from dbdiffusion.data import PerturbationField
from dbdiffusion.embedding import LeftOutSpaces, fit_effect_space, fit_space, one_gene_space
from dbdiffusion.model._decoder import VAEDecoder
from dbdiffusion.model._each_context import context_name
from dbdiffusion.model._progress import progress
from dbdiffusion.predict import Conditions, Generator, OwnTable, Predictor, Retrained
from dbdiffusion.screen import GeneSpace, Screen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from scvi.model import SCVI as _Base
    from torch import Tensor

    from dbdiffusion.diffusion import LatentDiffusion
    from dbdiffusion.embedding import EffectSpace, PerturbationSpace
    from dbdiffusion.screen import LeftOut, NameRule
else:
    _Base = object


class PredictorsMixin(_Base):
    """``predictor`` and what it is made of."""

    _predictors: dict[str | None, Predictor]
    _revision: int
    cross_fit_: dict | None
    own_predictors_: dict[str, Any] | None
    context_screens_: dict[str, dict] | None

    if TYPE_CHECKING:

        @property
        def contexts(self) -> tuple[str, ...]: ...
        @property
        def strategy(self) -> str: ...
        def _screen(self) -> Screen: ...
        def _require_diffusion(self) -> None: ...
        def _user_vectors(self) -> pd.DataFrame | None: ...
        def _name_rule(self) -> NameRule: ...

    def predictor(self, context: str | None = None) -> Predictor:
        """What answers all questions about the screen, or about one context: screen, space and generator in one.

        Parameters
        ----------
        context
            One of :attr:`contexts`; None for the screen as a whole.

        Returns
        -------
        Predictor
            Of the model as it is. After it was trained again, or places perturbations in another way, ask for a new one.

        Raises
        ------
        RuntimeError
            If a stage is not trained.
        ValueError
            If the model has no such context.

        Examples
        --------
        >>> predictor = model.predictor()
        >>> predictor.space.strategy_of(predictor.screen.names[0])
        'measured'
        """
        if context is not None:
            context = self._known_context(context)
        self._require_diffusion()
        if context not in self._predictors:
            if context is None:
                self._predictors[None] = self._predictor_of(self._screen())
            else:
                screens = {name: Screen.from_dict(values) for name, values in (self.context_screens_ or {}).items()}
                self._predictors |= self._context_predictors(screens, self._screen().left_out)
        return self._predictors[context]

    def _known_context(self, context: str | None) -> str:
        if not self.contexts:
            msg = f"`context` must be set up (`context_key` in `setup_anndata` or `setup_mudata`) first, got {context!r}."
            raise ValueError(msg)
        context = context_name(context)
        return known_word("context", None if context is None else str(context), self.contexts)

    def _space(self) -> PerturbationSpace:
        return self.predictor().space

    def _forget_predictors(self) -> None:
        """Whatever was derived from embeddings: spaces, predictions of references, folds. Kept predictors answer no more."""
        self._predictors = {}
        self._revision += 1
        self.cross_fit_ = None

    def _predictor_of(
        self, screen: Screen, context: str | None = None, left_out: LeftOutSpaces | None = None, axes: EffectSpace | None = None
    ) -> Predictor:
        left_out = left_out or self._left_out_spaces(screen)
        space = fit_space(
            screen.names,
            screen.observed,
            screen.genes,
            self.module.n_embedding,
            left_out.ranking(),
            self._user_vectors(),
            screen.separator,
            places_anything=self.strategy == "mean",
            n_axes=screen.n_axes,
            axes=axes,
        )
        track = progress("Generating")
        generator = Generator(VAEDecoder(self.module), self.module.diffusion, screen, self._told(context), track)
        retrained = () if context is not None else self._retrained(screen)
        own = {name: OwnTable(table, self._name_rule()) for name, table in self._brought(context).items()}
        return Predictor(screen, space, left_out, generator, own, retrained, self._revision, lambda: self._revision)

    def _brought(self, context: str | None) -> dict[str, pd.DataFrame]:
        """Tables of other models' predictions: those of a context, where there are contexts."""
        brought = self.own_predictors_ or {}
        if not any(isinstance(table, dict) for table in brought.values()):
            return brought
        return {} if context is None else {name: tables[context] for name, tables in brought.items()}

    def _context_predictors(self, screens: dict[str, Screen], left_out: LeftOut | None) -> dict[str | None, Predictor]:
        """Their spaces share the principal components of all contexts' effects, and gene space without each fold."""
        effect = np.concatenate([screen.observed.effect for screen in screens.values()])
        n_known = [int(screen.observed.has_variance.sum()) for screen in screens.values()]
        noises = [screen.observed.mean_noise() for screen in screens.values()]
        noise = np.average(noises, axis=0, weights=np.maximum(n_known, 1))
        joint = [name for screen in screens.values() for name in screen.names], effect
        axes = fit_effect_space(effect, noise, self.module.n_embedding)
        predictors: dict[str | None, Predictor] = {}
        for name, own in screens.items():
            screen = replace(own, left_out=left_out)
            predictors[name] = self._predictor_of(screen, name, self._left_out_spaces(screen, joint), axes)
        return predictors

    def _left_out_spaces(self, screen: Screen, joint: tuple[Sequence[str], np.ndarray] | None = None) -> LeftOutSpaces:
        """Their axes are those of the screen, or of the names and effects that ``joint`` has."""
        left_out = screen.left_out or one_gene_space(screen.names, screen.observed, screen.vectors)
        return LeftOutSpaces(screen, self.module.n_embedding, left_out, self._user_vectors(), self.strategy, joint)

    def _retrained(self, screen: Screen) -> tuple[Retrained, ...]:
        """Folds whose diffusion was retrained, if any."""
        if self.cross_fit_ is None:
            return ()
        folds = self.cross_fit_["folds"]
        return tuple(
            Retrained(
                self._fold_diffusion(stored), self._fold_space(screen, stored), tuple(np.flatnonzero(folds == fold).tolist())
            )
            for fold, stored in enumerate(self.cross_fit_["spaces"])
            if len(stored["kept"])
        )

    def _fold_diffusion(self, stored: dict) -> LatentDiffusion:
        diffusion = self.module.new_diffusion()
        diffusion.load_state_dict({name: torch.as_tensor(value) for name, value in stored["weights"].items()})
        return diffusion.eval()

    def _fold_space(self, screen: Screen, stored: dict) -> PerturbationSpace:
        kept, noise = stored["kept"], stored.get("noise")
        observed = screen.observed.subset(kept)
        return fit_space(
            [screen.names[i] for i in kept],
            observed,
            GeneSpace(screen.genes.names, stored["vectors"]),
            self.module.n_embedding,
            stored["ranking"],
            self._user_vectors(),
            screen.separator,
            places_anything=self.strategy == "mean",
            axes=None if noise is None else fit_effect_space(observed.effect, noise, self.module.n_embedding),
        )

    def _told(self, context: str | None = None) -> Conditions:
        """How the network is told of a perturbation in a context, or in none."""
        number = None if context is None else self.contexts.index(context)
        return Conditions(self.module.n_embedding, self.module.n_context, number)

    def _conditions(self, placed: Iterable[tuple[PerturbationSpace, Conditions]]) -> tuple[Tensor, Tensor]:
        """Conditions (codes x contexts, width) of the registered codes, which run slowest, and control's without a context.

        Codes that a space did not measure get control's.
        """
        state = self.registry_["field_registries"][REGISTRY.PERTURBATION]["state_registry"]
        categories = [str(name) for name in state[PerturbationField.CATEGORICAL_MAPPING_KEY]]
        by_context, placed = [], list(placed)
        for space, told in placed:
            table = np.repeat(space.control[None], len(categories), axis=0)
            measured = [i for i, name in enumerate(categories) if space.is_measured(name)]
            table[measured] = space.embed([categories[i] for i in measured])
            by_context.append(told.of(table))
        origin = self._told().of(placed[0][0].control[None])[0]
        return torch.stack(by_context, dim=1).flatten(0, 1), origin
