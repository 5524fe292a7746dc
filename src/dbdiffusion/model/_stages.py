"""The two stages of training, cross-fitting folds, and the guards that name a missing stage."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dbdiffusion._compat import ADATA_MINIFY_TYPE, minified_type
from dbdiffusion._keys import REGISTRY
from dbdiffusion.embedding import fit_space
from dbdiffusion.model._context import ContextMixin
from dbdiffusion.model._module import training_options
from dbdiffusion.model._screen import ScreenReader, check_has_cells, check_has_counts, used_cells
from dbdiffusion.model._training import (
    DiffusionPlan,
    DiffusionRecipe,
    DiffusionTrainRunner,
    LatentDataModule,
    Latents,
    Unprofiled,
    fit_linear_part,
    keeping_single_precision,
    standardised,
    steps_per_epoch,
)
from dbdiffusion.screen import Screen
from dbdiffusion.storage import interruptible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbdiffusion.predict import Predictor

VAE_STEPS = 2000
LOG_EVERY = 10  # steps, as scvi-tools does
STAGE_TWO_BROKEN_OFF = (
    "Stage two was broken off; stage one is as it was. `model.train_diffusion()` starts stage two anew, "
    "`model.train_diffusion(warm_start=True)` goes on from here."
)


class TwoStageTrainingMixin(ContextMixin):
    """``train`` = ``train_vae`` then ``train_diffusion``."""

    _cached_screen: Screen | None
    screen_: dict | None
    reference_screen_: dict | None
    context_screens_: dict[str, dict] | None
    cross_fit_: dict | None
    _predictors: dict[str | None, Predictor]
    _revision: int
    _keeps_latent_space: bool

    def train(
        self,
        max_epochs: int | None = None,
        max_epochs_diffusion: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        vae_kwargs: dict[str, Any] | None = None,
        diffusion_kwargs: dict[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train both stages.

        Parameters
        ----------
        max_epochs
            Epochs of the VAE; None chooses by the number of cells.
        max_epochs_diffusion
            Epochs of the diffusion; None chooses by the number of cells.
        accelerator, devices
            As in scvi-tools, for both stages. Several devices: train the stages in two processes, see
            :meth:`train_vae`, :meth:`save` and :meth:`train_diffusion`.
        vae_kwargs, diffusion_kwargs
            Further arguments of :meth:`train_vae` and :meth:`train_diffusion`.
        **trainer_kwargs
            Passed to the trainer of both stages, for instance ``enable_progress_bar=False``.

        Examples
        --------
        >>> from dbdiffusion import DBDiffusion, simulate_screen
        >>> adata = simulate_screen(n_genes=40, n_perturbations=6, n_cells_per_perturbation=20, n_control_cells=40)
        >>> DBDiffusion.setup_anndata(adata, batch_key="batch")
        >>> model = DBDiffusion(adata, n_latent=5, n_folds=2)
        >>> model.train(max_epochs=1, max_epochs_diffusion=1, accelerator="cpu", enable_progress_bar=False)
        >>> model.is_trained
        True
        """
        shared = {"accelerator": accelerator, "devices": devices, **trainer_kwargs}
        training_options(**{"max_epochs": max_epochs, **shared, **(vae_kwargs or {})})
        options = {"max_epochs": max_epochs_diffusion, **shared, **(diffusion_kwargs or {})}
        training_options(**options, named="max_epochs_diffusion")
        DiffusionRecipe.of(options.get("plan_kwargs"))
        self.train_vae(max_epochs=max_epochs, **{**shared, **(vae_kwargs or {})})
        self.train_diffusion(max_epochs=max_epochs_diffusion, **{**shared, **(diffusion_kwargs or {})})

    def train_vae(
        self,
        max_epochs: int | None = None,
        batch_size: int = 256,
        early_stopping: bool = True,
        plan_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train stage one, scvi's VAE on counts.

        Parameters
        ----------
        max_epochs
            None means about 2,000 optimiser steps, at least 10 and at most 400 epochs.
        batch_size, early_stopping, plan_kwargs, **kwargs
            As in :meth:`scvi.model.SCVI.train`; early stopping watches the ELBO of validation cells.

        Raises
        ------
        ValueError
            If the AnnData is minified.

        Examples
        --------
        >>> from dbdiffusion import DBDiffusion, simulate_screen
        >>> adata = simulate_screen(n_genes=40, n_perturbations=6, n_cells_per_perturbation=20, n_control_cells=40)
        >>> DBDiffusion.setup_anndata(adata, batch_key="batch")
        >>> model = DBDiffusion(adata, n_latent=5, n_folds=2)
        >>> model.train_vae(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
        >>> model.get_latent_representation().shape == (adata.n_obs, 5)
        True
        """
        max_epochs, batch_size = training_options(max_epochs, batch_size, plan_kwargs, **kwargs)
        check_has_counts(self.adata)
        self.adata_manager.validate(whole=True)
        if max_epochs is None:
            max_epochs = int(np.clip(round(VAE_STEPS * batch_size / (0.9 * self.adata.n_obs)), 10, 400))
        warmup = {"n_epochs_kl_warmup": max(1, min(50, max_epochs // 3)), "lr": 2e-3}
        if early_stopping:
            kwargs.setdefault("early_stopping_patience", 15)
            kwargs.setdefault("early_stopping_warmup_epochs", warmup["n_epochs_kl_warmup"])
        if self._keeps_latent_space:
            warmup["weight_decay"] = 0.0  # it would move the frozen weights
        else:
            self._forget_stage_two()
            self.module.diffusion.forget_linear_part()
        if self.history_ is None:
            self.is_trained_ = False  # scvi starts a history for untrained models only
        self.module.set_stage("vae")
        broken_off = "Stage one was broken off. Train it again (`model.train_vae()`)."
        with interruptible(broken_off), keeping_single_precision(self.module, kwargs.get("precision")):
            super().train(
                max_epochs=max_epochs,
                batch_size=batch_size,
                early_stopping=early_stopping,
                plan_kwargs={**warmup, **(plan_kwargs or {})},
                **_with_own_callbacks(kwargs),
            )
        self.is_vae_trained_ = True

    def train_diffusion(
        self,
        max_epochs: int | None = None,
        batch_size: int = 512,
        early_stopping: bool = False,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        plan_kwargs: dict[str, Any] | None = None,
        warm_start: bool | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train stage two, the latent diffusion, on the frozen VAE and the same split of cells.

        Parameters
        ----------
        max_epochs
            None means about as many as make ``n_steps`` optimiser steps, see ``plan_kwargs``.
        batch_size
            Cells a minibatch.
        early_stopping
            Watches ``validation_loss``.
        accelerator, devices
            As in scvi-tools.
        plan_kwargs
            ``lr`` (2e-3), ``weight_decay`` (1e-2), ``condition_dropout`` (0.1), ``ema_decay`` (0.998), ``n_steps`` (1000, for
            ``max_epochs=None``), ``n_warmup_steps`` (100), ``steps_per_average`` (8), ``draws_latents`` (True; False trains on
            the posterior means).
        warm_start
            Whether to go on from the present weights of the diffusion, as after an interrupted run, instead of from fresh
            ones. None means so for a model of :meth:`load_query_data`, whose diffusion is then fine-tuned.
        **trainer_kwargs
            Passed to :class:`scvi.train.Trainer`. With a logger other than scvi-tools' own, which is the default, the history
            is there and not on the model.

        Raises
        ------
        RuntimeError
            If stage one was not trained.
        ValueError
            If there are no cells, for a warm start without weights to start from, or a precision that would round the
            weights.

        Examples
        --------
        >>> import copy
        >>> copied = copy.deepcopy(model)
        >>> copied.train_diffusion(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
        >>> copied.generate(unseen[0], n_cells=3).n_obs
        3
        """
        max_epochs, batch_size = training_options(max_epochs, batch_size, plan_kwargs, **trainer_kwargs)
        recipe = DiffusionRecipe.of(plan_kwargs)
        self._require_vae()
        check_has_cells(self.adata)
        warm_start = self._warm_start(warm_start)
        screen, context_screens = self._read_screens()
        self._fit_split()
        counted = [used_cells(self.adata_manager, part) for part in (self.train_indices, self.validation_indices)]
        latents = self._encode()
        if context_screens:
            latents = self._in_contexts(latents)
            predictors = self._context_predictors(context_screens, screen.left_out)
        else:
            predictors = {None: self._predictor_of(screen)}
        conditions, origin = self._conditions((one.space, one.generator.conditions) for one in predictors.values())
        self._forget_stage_two()
        if not warm_start:
            self.module.diffusion.reset()
            fit_linear_part(self.module.diffusion, latents.subset(counted[0]), conditions, origin)
        latents = standardised(latents, self.module.diffusion, conditions)
        data = LatentDataModule(latents, counted[0], counted[1], batch_size)
        max_epochs = max_epochs or recipe.epochs_for(data)
        plan = DiffusionPlan(self.module.diffusion, conditions, max_epochs * steps_per_epoch(data), recipe, self.module)
        options: dict[str, Any] = {
            "early_stopping_monitor": "validation_loss",
            "checkpointing_monitor": "validation_loss",
            "profiler": Unprofiled(),
            "log_every_n_steps": min(LOG_EVERY, steps_per_epoch(data)),  # else Lightning warns of short epochs
        }
        split = (self.train_indices, self.validation_indices, self.test_indices)
        with (
            interruptible(STAGE_TWO_BROKEN_OFF),
            self._stage_two(split),
            keeping_single_precision(self.module, trainer_kwargs.get("precision")),
            _frozen_on_purpose(),
        ):
            runner = DiffusionTrainRunner(
                self,
                training_plan=plan,
                data_splitter=data,
                max_epochs=max_epochs,
                accelerator=accelerator,
                devices=devices,
                early_stopping=early_stopping,
                **{**options, **_with_own_callbacks(trainer_kwargs)},
            )
            runner()
        self.module.diffusion.is_fitted.fill_(True)
        self.screen_ = screen.to_dict()
        self.context_screens_ = {name: one.to_dict() for name, one in context_screens.items()} or None
        self._cached_screen = screen
        self._predictors = {name: replace(one, revision=self._revision) for name, one in predictors.items()}
        self.is_diffusion_trained_ = True

    @contextlib.contextmanager
    def _stage_two(self, split: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Iterator[None]:
        """The VAE frozen and the split of cells kept, however the training ends."""
        self.module.set_stage("diffusion")
        try:
            yield
        finally:
            self.module.set_stage("vae")
            self.module.eval()
            self.train_indices, self.validation_indices, self.test_indices = split

    @torch.no_grad()
    def _encode(self) -> Latents:
        self.module.eval()  # scvi trusts that it is; a module in training mode would drop units and move its statistics
        mean, variance = self.get_latent_representation(return_dist=True, batch_size=2048)
        codes = self.adata_manager.get_from_registry(REGISTRY.PERTURBATION).ravel()
        return Latents(
            torch.as_tensor(mean, dtype=torch.float32),
            torch.as_tensor(variance, dtype=torch.float32).sqrt(),
            torch.as_tensor(codes.astype(np.int64)),
        )

    def _read_screens(self) -> tuple[Screen, dict[str, Screen]]:
        """The screen as a whole, and those of the contexts."""
        if self.screen_ is not None and minified_type(self.adata) == ADATA_MINIFY_TYPE.LATENT_POSTERIOR:
            contexts = {name: Screen.from_dict(values) for name, values in (self.context_screens_ or {}).items()}
            return Screen.from_dict(self.screen_), contexts
        reader = ScreenReader(self.adata_manager)
        reference = Screen.from_dict(self.reference_screen_) if self.reference_screen_ else None
        screen = reader.read(vectors=reference.vectors if reference else None)
        contexts = {name: reader.read(name, screen.vectors) for name in reader.contexts}
        if reference is None:
            return screen, contexts
        known = fit_space(reference.names, reference.observed, reference.genes, 1, ("ridge",), separator=reference.separator)
        return reference.extended(screen, known.is_measured, known.parts), contexts

    def _warm_start(self, asked: bool | None) -> bool:
        has_weights = self.module.diffusion.has_linear_part
        if asked is None:
            return has_weights and self.reference_screen_ is not None
        if asked and not has_weights:
            msg = "`warm_start` needs a diffusion that was trained before, if only for an epoch; leave it out."
            raise ValueError(msg)
        return asked

    def _require_vae(self) -> None:
        if not (self.is_vae_trained_ or self.is_trained_):  # a checkpoint of stage one has the latter only
            msg = "Stage one (the VAE) is not trained. Call `model.train()`, or `model.train_vae()` first."
            raise RuntimeError(msg)

    def _require_diffusion(self) -> None:
        self._require_vae()
        if not self.is_diffusion_trained_ or not bool(self.module.diffusion.is_fitted):
            msg = "Stage two (the diffusion) is not trained. Call `model.train_diffusion()`."
            raise RuntimeError(msg)

    def _screen(self) -> Screen:
        self._require_diffusion()
        if self._cached_screen is None:
            self._cached_screen = Screen.from_dict(self.screen_ or {})
        return self._cached_screen

    def _forget_stage_two(self) -> None:
        self.is_diffusion_trained_ = False
        self._cached_screen = None
        self._forget_predictors()
        self.module.diffusion.is_fitted.fill_(False)


@contextlib.contextmanager
def _frozen_on_purpose() -> Iterator[None]:
    """Lightning warns of modules in eval mode: the VAE is, while the diffusion trains."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")
        yield


def _with_own_callbacks(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Scvi's trainer appends to the list of callbacks it is given; a user's list stays as it is."""
    if kwargs.get("callbacks"):
        return {**kwargs, "callbacks": list(kwargs["callbacks"])}
    return kwargs
