"""Contexts (cell lines, times, stimulations): each is a screen of its own, all share axes, networks and gene space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dbdiffusion._keys import REGISTRY
from dbdiffusion.model._predictors import PredictorsMixin, context_name, one_at_a_time
from dbdiffusion.model._questions import Questions

if TYPE_CHECKING:
    from dbdiffusion.embedding import PerturbationSpace
    from dbdiffusion.model._training import Latents
    from dbdiffusion.predict import Predictor
    from dbdiffusion.screen import Screen


@one_at_a_time(lambda view: view._model)
class ContextView(Questions):
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

    def __init__(self, model: ContextMixin, context: str) -> None:
        self._model, self._context_name = model, context

    def __getattr__(self, name: str) -> Any:
        if name == "_model" or name.startswith("__"):  # not there yet while it is copied
            raise AttributeError(name)
        return getattr(self._model, name)

    def predictor(self, context: str | None = None) -> Predictor:
        """Of the context; there is no other inside it.

        Raises
        ------
        ValueError
            If another one is asked for.
        """
        if context is not None and context_name(context) != self._context_name:
            msg = f"`context` is {self._context_name!r} here, got {context!r}; ask `model.predictor({context!r})`."
            raise ValueError(msg)
        return self._model.predictor(self._context_name)

    def _screen(self) -> Screen:
        return self.predictor().screen

    def _space(self) -> PerturbationSpace:
        return self.predictor().space


class ContextMixin(PredictorsMixin):
    """Contexts of a model."""

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
        context = self._known_context(context)
        self.predictor(context)
        return ContextView(self, context)

    def _in_contexts(self, latents: Latents) -> Latents:
        """Latents whose codes count perturbations and contexts, as the rows of :meth:`_conditions`."""
        context = self.adata_manager.get_from_registry(REGISTRY.CONTEXT).ravel().astype(np.int64)
        return type(latents)(latents.mean, latents.sd, latents.code * len(self.contexts) + torch.as_tensor(context))
