"""Cross-fitting: the diffusion retrained once per fold of perturbations, without anything of the fold."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi.train import Trainer

from dbdiffusion._words import whole_number
from dbdiffusion.embedding import LeftOutSpaces
from dbdiffusion.model._module import FOLDS, training_options
from dbdiffusion.model._screen import ScreenReader
from dbdiffusion.model._stages import TwoStageTrainingMixin
from dbdiffusion.model._training import (
    DiffusionPlan,
    DiffusionRecipe,
    LatentDataModule,
    fit_linear_part,
    standardised,
    steps_per_epoch,
)
from dbdiffusion.screen import Screen, network_folds, perturbation_folds
from dbdiffusion.storage import interruptible

if TYPE_CHECKING:
    from dbdiffusion.embedding import PerturbationSpace
    from dbdiffusion.model._training import Latents
    from dbdiffusion.screen import LeftOut


class CrossFittingMixin(TwoStageTrainingMixin):
    """``cross_fit`` and ``leave_out_folds``."""

    def leave_out_folds(self) -> None:
        """Make gene space without each fold of perturbations, for a model that was saved by a version that did not.

        What else that version did not keep is read too: halves of the control cells, and how many cells express a gene.

        Training does it. The cells must be those that the model was trained on; nothing is trained.

        Raises
        ------
        RuntimeError
            If stage two was not trained.
        ValueError
            If there are no counts, or the perturbations are not those of the training.

        Examples
        --------
        >>> import copy
        >>> copied = copy.deepcopy(model)
        >>> copied.leave_out_folds()
        """
        screen, reader = self._screen(), ScreenReader(self.adata_manager)
        absent = sorted(set(screen.names) - set(reader.effects()[0]))
        if absent:
            msg = f"The cells must be those that the model was trained on, but none of them has {absent[:3]!r}."
            raise ValueError(msg)
        left_out = reader.left_out(perturbation_folds(reader.parts(screen.names)), screen.names)[1]
        self.screen_ = _completed(screen, left_out, reader, None).to_dict()
        self.context_screens_ = {
            name: _completed(Screen.from_dict(values), None, reader, name).to_dict()
            for name, values in (self.context_screens_ or {}).items()
        } or None
        self._cached_screen = None
        self._forget_predictors()

    def cross_fit(
        self,
        max_epochs: int | None = None,
        batch_size: int = 512,
        plan_kwargs: dict[str, Any] | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        enable_progress_bar: bool = False,
        seed: int = 0,
    ) -> None:
        """Retrain the diffusion once per fold of perturbations, without the fold's cells, effects and embeddings.

        Inference calls it when it is needed; calling it before lets you choose its cost. The folds stay on the model
        and are saved with it.

        Parameters
        ----------
        max_epochs
            Epochs a fold; None means as many as :meth:`train_diffusion` chooses.
        batch_size, plan_kwargs, accelerator, devices
            As in :meth:`train_diffusion`.
        enable_progress_bar
            Whether every fold shows one.
        seed
            Of the assignment of perturbations to folds.

        Raises
        ------
        RuntimeError
            If stage two was not trained.
        ValueError
            If the model has contexts.

        Examples
        --------
        >>> import copy
        >>> copied = copy.deepcopy(model)
        >>> copied.cross_fit(max_epochs=1, accelerator="cpu")
        >>> table = copied.predict_effects(unseen, cross_fitting="k_fold", n_cells=64)
        >>> len(table) == 2 * adata.n_vars
        True
        """
        if self.contexts:
            msg = "Folds are not retrained in a model with contexts; use `cross_fitting='embedding'`, as calibrated and faster."
            raise ValueError(msg)
        max_epochs, batch_size = training_options(max_epochs, batch_size, plan_kwargs)
        recipe = DiffusionRecipe.of(plan_kwargs)
        seed = whole_number("seed", seed)
        screen = self._screen()
        reader = ScreenReader(self.adata_manager)
        latents = self._encode()
        parts = {name: self._space().parts(name) for name in screen.names}
        folds = network_folds(parts, self.module.n_folds, seed)
        spaces = LeftOutSpaces(
            screen, self.module.n_embedding, reader.left_out(folds, screen.names)[1], self._user_vectors(), self.strategy
        )
        started = time.perf_counter()
        number, stored = np.full(len(screen.names), -1), []
        for i, fold in enumerate(folds):
            kept = np.array([row for row, name in enumerate(screen.names) if name not in fold.excluded], dtype=int)
            number[[screen.names.index(name) for name in fold.scored]] = i
            space = spaces.space(i, spaces.ranking(i)) if len(kept) else None
            stored.append(
                {
                    "vectors": spaces.left_out.spaces[i].vectors,
                    "noise": spaces.left_out.spaces[i].noise,
                    "ranking": space.ranking if space else (),
                    "kept": kept,
                }
            )
            if space is None:
                continue
            is_out = np.isin(reader.codes, [reader.categories.index(name) for name in fold.excluded])
            outside = latents.subset(np.flatnonzero(~is_out & reader.cells.takes_part))
            stored[-1]["weights"] = self._fit_fold(
                space, outside, batch_size, max_epochs, recipe, accelerator, devices, enable_progress_bar
            )
        self.cross_fit_ = {"folds": number, "spaces": stored, "seconds": time.perf_counter() - started}
        self._predictors[None] = replace(self.predictor(), retrained=self._retrained(screen))

    def _fit_fold(
        self,
        space: PerturbationSpace,
        latents: Latents,
        batch_size: int,
        max_epochs: int | None,
        recipe: DiffusionRecipe,
        accelerator: str,
        devices: int | list[int] | str,
        enable_progress_bar: bool,
    ) -> dict[str, np.ndarray]:
        conditions, origin = self._conditions([(space, self._told())])
        diffusion = self.module.new_diffusion()
        fit_linear_part(diffusion, latents, conditions, origin)
        latents = standardised(latents, diffusion, conditions)
        data = LatentDataModule(latents, np.arange(len(latents.mean)), np.empty(0, dtype=int), batch_size)
        max_epochs = max_epochs or recipe.epochs_for(data)
        plan = DiffusionPlan(diffusion, conditions, max_epochs * steps_per_epoch(data), recipe)
        trainer = Trainer(
            max_epochs=max_epochs, accelerator=accelerator, devices=devices, enable_progress_bar=enable_progress_bar
        )
        with interruptible("Cross-fitting was broken off; both stages are as they were."):
            trainer.fit(plan, data)
        diffusion.is_fitted.fill_(True)
        return {name: value.cpu().numpy() for name, value in diffusion.state_dict().items()}

    def _take_up_folds(self) -> None:
        """Folds that an earlier version saved among the module's weights, from now on among those of cross-fitting."""
        before, self.module.folds_of_before = self.module.folds_of_before, {}
        if self.cross_fit_ is None or not before:
            return
        spaces = [
            {
                **stored,
                "weights": {
                    name.removeprefix(f"{FOLDS}{i}."): value.cpu().numpy()
                    for name, value in before.items()
                    if name.startswith(f"{FOLDS}{i}.")
                },
            }
            for i, stored in enumerate(self.cross_fit_["spaces"])
        ]
        self.cross_fit_ = {**self.cross_fit_, "spaces": spaces}


def _completed(screen: Screen, left_out: LeftOut | None, reader: ScreenReader, context: str | None) -> Screen:
    """A screen with its folds, halves of the control cells and numbers of expressing cells, read from the same cells."""
    fresh = reader.read(context, screen.vectors)
    rows = np.array([fresh.names.index(name) for name in screen.names])
    return replace(
        screen,
        left_out=left_out,
        observed=replace(screen.observed, n_expressing=fresh.observed.n_expressing[rows]),
        halves=None if fresh.halves is None else fresh.halves.subset(rows),
    )
