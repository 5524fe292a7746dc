"""Contexts (cell lines, times, stimulations): each is a screen of its own, all share axes, networks and gene space."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dbdiffusion._keys import REGISTRY
from dbdiffusion.data import contexts_of
from dbdiffusion.embedding import fit_effect_space
from dbdiffusion.model._calibration import CalibrationMixin
from dbdiffusion.model._each_context import context_name
from dbdiffusion.model._generation import GenerationMixin, known_word
from dbdiffusion.model._inference import InferenceMixin
from dbdiffusion.model._perturbations import PerturbationMixin
from dbdiffusion.model._threads import one_at_a_time
from dbdiffusion.screen import Screen

if TYPE_CHECKING:
    from scvi.model import SCVI as _Base
    from torch import Tensor

    from dbdiffusion.embedding import LeftOutSpaces, PerturbationSpace
    from dbdiffusion.model._latents import Latents
    from dbdiffusion.screen import LeftOut
else:
    _Base = object


@dataclass
class InContext:
    """What a model knows of one of its contexts, until it is trained again or places perturbations in another way.

    Parameters
    ----------
    screen, space
        Of the context.
    left_out
        The spaces without each fold, on the axes of all contexts.
    pools
        Predictions of its references, kept for the next question.
    """

    screen: Screen
    space: PerturbationSpace
    left_out: LeftOutSpaces
    pools: dict = field(default_factory=dict)


@one_at_a_time(lambda view: view._model)
class ContextView(InferenceMixin, CalibrationMixin, GenerationMixin):
    """A model seen from inside one context: the same methods, effects against the control cells of the context.

    It holds nothing of its own, so a view that is kept answers as the model does now.

    Parameters
    ----------
    model
        With contexts.
    context
        Name.
    """

    contexts: tuple[str, ...] = ()

    def __init__(self, model: Any, context: str) -> None:
        self._model, self._context_name = model, context

    def __getattr__(self, name: str) -> Any:
        if name == "_model" or name.startswith("__"):  # not there yet while it is copied
            raise AttributeError(name)
        return getattr(self._model, name)

    embedding_scores = PerturbationMixin.embedding_scores
    perturbation_embeddings = PerturbationMixin.perturbation_embeddings
    strategy_of = PerturbationMixin.strategy_of
    parts_of = PerturbationMixin.parts_of
    baseline_effects = PerturbationMixin.baseline_effects
    control_variance = PerturbationMixin.control_variance

    def _screen(self) -> Screen:
        return self._model._known_in(self._context_name).screen

    def _space(self) -> PerturbationSpace:
        return self._model._known_in(self._context_name).space

    def _left_out_spaces(self, screen: Screen) -> LeftOutSpaces:
        del screen  # the context's own
        return self._model._known_in(self._context_name).left_out

    @property
    def _pools(self) -> dict:
        return self._model._known_in(self._context_name).pools

    @_pools.setter
    def _pools(self, pools: dict) -> None:
        self._model._known_in(self._context_name).pools = pools

    def _as_condition(self, embedding: np.ndarray) -> Tensor:
        condition = self._model._as_condition(embedding)
        condition[:, self._model.module.n_embedding + self._model.contexts.index(self._context_name)] = 1.0
        return condition


class ContextMixin(_Base):
    """Contexts of a model."""

    _views: dict[str, InContext]
    context_screens_: dict[str, dict] | None

    @property
    def contexts(self) -> tuple[str, ...]:
        """Names of the contexts; none without a ``context_key``.

        Examples
        --------
        >>> model.contexts
        ()
        """
        return tuple(contexts_of(self.registry_))

    def in_context(self, context: str) -> ContextView:
        """The model as it is in one context.

        Parameters
        ----------
        context
            One of :attr:`contexts`.

        Returns
        -------
        ContextView
            Always of the model as it is, also when that is trained again. Has ``generate``, ``predict_effects``,
            ``differential_expression_ppi``, ``calibration`` and the other methods of inference.

        Raises
        ------
        ValueError
            If the model has no such context.
        RuntimeError
            If a stage is not trained.

        Examples
        --------
        >>> from dbdiffusion import DBDiffusion, simulate_screen
        >>> adata = simulate_screen(n_genes=40, n_perturbations=6, n_cells_per_perturbation=20, n_control_cells=40)
        >>> adata.obs["day"] = [f"day {2 + i % 2}" for i in range(adata.n_obs)]
        >>> DBDiffusion.setup_anndata(adata, context_key="day")
        >>> model = DBDiffusion(adata, n_latent=5, n_folds=2)
        >>> model.train(max_epochs=1, max_epochs_diffusion=1, accelerator="cpu", enable_progress_bar=False)
        >>> model.in_context("day 3").generate("GENE00", n_cells=3).n_obs
        3
        """
        context = context_name(context)
        self._known_in(context)
        return ContextView(self, context)

    def _known_in(self, context: str) -> InContext:
        if not self.contexts:
            msg = f"`context` must be set up (`context_key` in `setup_anndata` or `setup_mudata`) first, got {context!r}."
            raise ValueError(msg)
        context = known_word("context", None if context is None else str(context), self.contexts)
        self._require_diffusion()
        if not self._views:
            screens = {name: Screen.from_dict(values) for name, values in (self.context_screens_ or {}).items()}
            self._views = self._views_of(screens, self._screen().left_out)
        return self._views[context]

    def _views_of(self, screens: dict[str, Screen], left_out: LeftOut | None) -> dict[str, InContext]:
        """Contexts whose spaces share the principal components of all contexts' effects, and gene space without each fold."""
        effect = np.concatenate([screen.observed.effect for screen in screens.values()])
        n_known = [int(screen.observed.has_variance.sum()) for screen in screens.values()]
        noises = [screen.observed.mean_noise() for screen in screens.values()]
        noise = np.average(noises, axis=0, weights=np.maximum(n_known, 1))
        joint = [name for screen in screens.values() for name in screen.names], effect
        axes = fit_effect_space(effect, noise, self.module.n_embedding)
        views = {}
        for name, own in screens.items():
            screen = replace(own, left_out=left_out)
            spaces = self._new_left_out_spaces(screen, joint)
            views[name] = InContext(screen, self._space_of(screen, spaces, axes), spaces)
        return views

    def _context_conditions(self, views: dict[str, InContext]) -> tuple[Tensor, Tensor]:
        """Conditions (codes x contexts, E + contexts), perturbation codes running slowest, and control's without a context."""
        by_context = [
            PerturbationMixin._conditions(ContextView(self, name), known.space)[0]  # type: ignore[arg-type]
            for name, known in views.items()
        ]
        origin = self._as_condition(next(iter(views.values())).space.control[None])[0]
        return torch.stack(by_context, dim=1).flatten(0, 1), origin

    def _in_contexts(self, latents: Latents) -> Latents:
        """Latents whose codes count perturbations and contexts, as the rows of :meth:`_context_conditions`."""
        context = self.adata_manager.get_from_registry(REGISTRY.CONTEXT).ravel().astype(np.int64)
        return type(latents)(latents.mean, latents.sd, latents.code * len(self.contexts) + torch.as_tensor(context))
