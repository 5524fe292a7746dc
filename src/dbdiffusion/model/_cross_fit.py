"""Cross-fitting: the diffusion retrained once per fold of perturbations, without anything of the fold."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from scvi.train import Trainer

from dbdiffusion.data import assign_folds
from dbdiffusion.embedding import GeneSpace
from dbdiffusion.model._interruption import saying
from dbdiffusion.model._latents import LatentDataModule, fit_linear_part, standardised, steps_per_epoch
from dbdiffusion.model._options import training_options, whole_number
from dbdiffusion.model._screen import ScreenReader
from dbdiffusion.model._stages import TwoStageTrainingMixin
from dbdiffusion.model._training import DiffusionPlan, epochs_for

if TYPE_CHECKING:
    from dbdiffusion.diffusion import LatentDiffusion
    from dbdiffusion.embedding import PerturbationSpace
    from dbdiffusion.model._latents import Latents


class CrossFittingMixin(TwoStageTrainingMixin):
    """``cross_fit``."""

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
        """
        if self.contexts:
            msg = "Folds are not retrained in a model with contexts; use `cross_fitting='embedding'`, as calibrated and faster."
            raise ValueError(msg)
        max_epochs, batch_size = training_options(max_epochs, batch_size, plan_kwargs)
        seed = whole_number("seed", seed)
        screen = self._screen()
        reader = ScreenReader(self.adata_manager)
        latents = self._encode()
        folds = assign_folds([self._space().parts(name) for name in screen.names], len(self.module.folds), seed)
        started = time.perf_counter()
        spaces = []
        for fold, diffusion in enumerate(list(self.module.folds)[: folds.max() + 1]):
            left_out = tuple(name for name, f in zip(screen.names, folds, strict=True) if f == fold)
            kept = np.flatnonzero(folds != fold)
            if len(kept) == 0:
                continue
            genes = GeneSpace(screen.genes.names, reader.gene_vectors(left_out))
            space = self._fit_space([screen.names[i] for i in kept], screen.observed.subset(kept), genes)
            spaces.append({"vectors": genes.vectors, "ranking": space.ranking, "kept": kept})
            in_fold = np.isin(reader.codes, [reader.categories.index(name) for name in left_out])
            outside = latents.subset(np.flatnonzero(~in_fold))
            self._fit_fold(
                diffusion, space, outside, batch_size, max_epochs, plan_kwargs, accelerator, devices, enable_progress_bar
            )
        self._pools = {}
        self.cross_fit_ = {"folds": folds, "spaces": spaces, "seconds": time.perf_counter() - started}

    def _fit_fold(
        self,
        diffusion: LatentDiffusion,
        space: PerturbationSpace,
        latents: Latents,
        batch_size: int,
        max_epochs: int | None,
        plan_kwargs: dict[str, Any] | None,
        accelerator: str,
        devices: int | list[int] | str,
        enable_progress_bar: bool,
    ) -> None:
        conditions, origin = self._conditions(space)
        self.module.set_stage("diffusion")
        diffusion.reset()
        fit_linear_part(diffusion, latents, conditions, origin)
        latents = standardised(latents, diffusion, conditions)
        data = LatentDataModule(latents, np.arange(len(latents.mean)), np.empty(0, dtype=int), batch_size)
        max_epochs = max_epochs or epochs_for(data)
        plan = DiffusionPlan(diffusion, conditions, max_epochs * steps_per_epoch(data), **(plan_kwargs or {}))
        trainer = Trainer(
            max_epochs=max_epochs, accelerator=accelerator, devices=devices, enable_progress_bar=enable_progress_bar
        )
        try:
            with saying("Cross-fitting was broken off; both stages are as they were."):
                trainer.fit(plan, data)
        finally:
            self.module.set_stage("vae")
            self.module.eval()
            self.module.to(next(self.module.parameters()).device)
        diffusion.is_fitted.fill_(True)
