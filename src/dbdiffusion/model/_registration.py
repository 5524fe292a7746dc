"""What a model knows before it is trained: its cells, where they come in, and what perturbations are called."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mudata import MuData
from scvi.model import SCVI
from scvi.module import VAE

from dbdiffusion._compat import minified_type
from dbdiffusion.data import check_genes, check_kind, check_modalities
from dbdiffusion.model._inference import TargetsMixin
from dbdiffusion.model._perturbations import PerturbationMixin, TargetCellsMixin
from dbdiffusion.model._screen import DoorMixin, MinifiedMixin, genes_of
from dbdiffusion.model._setup import RnaMixin, SetupMixin

if TYPE_CHECKING:
    from typing import Self

    import pandas as pd
    from anndata import AnnData
    from scvi.model import SCVI as _Base
    from torch.nn import Module
else:
    _Base = object


# Stage one taken from a trained :class:`scvi.model.SCVI`.


OWN_PARTS = ("diffusion.",)  # of the state dict; all else is the VAE's


class PretrainedMixin(_Base):
    """``from_scvi_model``."""

    @classmethod
    def from_scvi_model(
        cls,
        scvi_model: SCVI,
        perturbation_key: str = "perturbation",
        control: str = "control",
        adata: AnnData | None = None,
        embedding_key: str | None = None,
        combination_sep: str = "+",
        **model_kwargs: Any,
    ) -> Self:
        """Build a model whose stage one is a trained :class:`scvi.model.SCVI`; go on with :meth:`train_diffusion`.

        The weights are copied bit for bit, with the codes of batches and covariates and the split of cells. The SCVI model
        is not changed.

        Parameters
        ----------
        scvi_model
            Trained, on counts that are still there, with likelihood ``"nb"``, ``"zinb"`` or ``"poisson"``.
        perturbation_key, control, embedding_key, combination_sep
            As in :meth:`setup_anndata`.
        adata
            None means the SCVI model's; another one must be organised in the same way.
        **model_kwargs
            Of the diffusion: ``n_embedding``, ``n_diffusion_hidden``, ``n_diffusion_blocks``, ``n_folds``.

        Raises
        ------
        TypeError
            If it is no SCVI model, or one of another module.
        RuntimeError
            If it is not trained.
        ValueError
            If its AnnData is minified or missing, its likelihood is none of counts, or an argument belongs to the VAE.

        Examples
        --------
        >>> import scvi
        >>> from dbdiffusion import DBDiffusion, simulate_screen
        >>> adata = simulate_screen(n_genes=40, n_perturbations=6, n_cells_per_perturbation=20, n_control_cells=40)
        >>> scvi.model.SCVI.setup_anndata(adata)
        >>> pretrained = scvi.model.SCVI(adata, gene_likelihood="nb")
        >>> pretrained.train(max_epochs=1, enable_progress_bar=False)
        >>> model = DBDiffusion.from_scvi_model(pretrained, n_folds=2)
        >>> bool((model.get_latent_representation() == pretrained.get_latent_representation()).all())
        True
        """
        _check_pretrained(scvi_model)
        adata = _data_of(scvi_model, adata)
        taken = _constructor_arguments(scvi_model)
        repeated = sorted(set(taken).intersection(model_kwargs))
        if repeated:
            msg = f"{repeated} belong to the VAE, which is taken from the SCVI model as it is; leave them out."
            raise ValueError(msg)
        cls.setup_anndata(
            adata,
            **deepcopy(scvi_model.registry["setup_args"]),
            perturbation_key=perturbation_key,
            control=control,
            embedding_key=embedding_key,
            combination_sep=combination_sep,
            source_registry=scvi_model.registry,
        )
        model = cls(adata, **taken, **model_kwargs)
        _copy_weights(scvi_model.module, model.module)
        model.to_device(scvi_model.device)
        model.module.eval()
        model.is_vae_trained_ = model.is_trained_ = True
        model.history_ = deepcopy(scvi_model.history_)
        if adata is scvi_model.adata:
            for name in ("train_indices", "validation_indices", "test_indices"):
                setattr(model, name, deepcopy(getattr(scvi_model, name)))
        return model


def _check_pretrained(scvi_model: SCVI) -> None:
    if not isinstance(scvi_model, SCVI):
        msg = f"`scvi_model` must be a scvi.model.SCVI, got {type(scvi_model).__name__}."
        raise TypeError(msg)
    if type(scvi_model.module) is not VAE:
        msg = (
            f"`scvi_model` must have scvi's VAE as its module, got a {type(scvi_model).__name__} with "
            f"{type(scvi_model.module).__name__}, whose weights would not fit."
        )
        raise TypeError(msg)
    if not scvi_model.is_trained_:
        msg = "`scvi_model` is not trained. Call `scvi_model.train()` first."
        raise RuntimeError(msg)
    if scvi_model.registry.get("setup_method_name", "setup_anndata") != "setup_anndata":
        msg = f"`scvi_model` must be set up by `setup_anndata`, got {scvi_model.registry['setup_method_name']!r}."
        raise ValueError(msg)


def _data_of(scvi_model: SCVI, adata: AnnData | None) -> AnnData:
    adata = scvi_model.adata if adata is None else adata
    if adata is None:
        msg = "`scvi_model` was loaded without data; give the cells: `from_scvi_model(scvi_model, adata=...)`."
        raise ValueError(msg)
    check_kind(adata)
    if minified_type(adata) is not None:
        msg = "The AnnData of `scvi_model` is minified, but effects are read from counts. Give the whole one: `adata=...`."
        raise ValueError(msg)
    return adata


def _constructor_arguments(scvi_model: SCVI) -> dict[str, Any]:
    saved = scvi_model.init_params_
    keywords = {name: value for group in saved["kwargs"].values() for name, value in group.items()}
    return {**saved["non_kwargs"], **keywords}


def _copy_weights(source: VAE, target: VAE) -> None:
    answer = target.load_state_dict(source.state_dict(), strict=False)
    foreign = [*answer.unexpected_keys, *(key for key in answer.missing_keys if not key.startswith(OWN_PARTS))]
    if foreign:
        msg = f"The SCVI model's weights do not fit: {foreign[:3]}. Was it changed after it was built?"
        raise ValueError(msg)


# A trained model meets new cells, with perturbations that it never saw measured.


PREPARE = "Run `DBDiffusion.prepare_query_anndata(adata, reference_model)` first, which pads and sorts."


class QueryMixin(_Base):
    """``load_query_data``."""

    screen_: dict | None

    @classmethod
    def load_query_data(
        cls,
        adata: AnnData | MuData,
        reference_model: str | Path | Self,
        unfrozen: bool = False,
        freeze_expression: bool = True,
        freeze_batchnorm_encoder: bool = True,
        **kwargs: Any,
    ) -> Self:
        """Take a trained model to new cells with new measured perturbations (scArches).

        Perturbations, batches and categories of covariates that the reference does not know get codes after the old ones.
        A perturbation that the reference measured keeps its effect and its embedding; new ones are measured in the new
        cells, against the new control cells, and placed on the reference's axes. Generation takes library sizes and
        covariates from the new control cells.

        With new batches or categories stage one must be trained again, with what it knew frozen
        (:meth:`train_vae`); without, the model answers at once. :meth:`train_diffusion` fine-tunes stage two on the new cells.

        Parameters
        ----------
        adata
            The new cells, organised like the reference's, the same genes in the same order (else
            :meth:`prepare_query_anndata` first), control cells among them.
        reference_model
            A model, or the folder of a saved one.
        unfrozen
            Whether stage one may move as a whole; stage two is then trained anew.
        freeze_expression, freeze_batchnorm_encoder, **kwargs
            As in :meth:`scvi.model.SCVI.load_query_data`.

        Returns
        -------
        DBDiffusion
            A new model without history and without a split of cells; the reference is not changed.

        Raises
        ------
        NotImplementedError
            If the reference has contexts.
        RuntimeError
            If stage one of the reference is not trained.
        ValueError
            If the genes differ, or the new cells are not what :meth:`setup_anndata` takes.

        Examples
        --------
        >>> query = DBDiffusion.load_query_data(adata.copy(), model)
        >>> query.generate(unseen[0], n_cells=3).n_obs
        3
        """
        reference = source = reference_model
        if isinstance(reference, str | Path):
            source = str(reference)
            reference = cls.load(source, adata=False)
            if reference.module.was_loaded_with_folds:  # by an earlier version; scvi-tools would look for them in the new model
                source = reference
        reference._require_vae()
        if reference.contexts:
            msg = "A model with contexts cannot be taken to new cells yet; train one on all cells together."
            raise NotImplementedError(msg)
        check_kind(adata, is_mudata="modalities" in reference.registry_["setup_args"])
        if not kwargs.get("inplace_subset_query_vars"):
            check_genes(_genes_in(adata, reference.registry_["setup_args"]), genes_of(reference.registry_), PREPARE)
        model = super().load_query_data(
            adata,
            source,
            unfrozen=unfrozen,
            freeze_expression=freeze_expression,
            freeze_batchnorm_encoder=freeze_batchnorm_encoder,
            **kwargs,
        )
        model.module.keep_frozen()
        model._keeps_latent_space = not unfrozen and freeze_expression and freeze_batchnorm_encoder
        model._start_afresh(knows_all_categories=_sizes(model.module) == _sizes(reference.module))
        return model

    @classmethod
    def prepare_query_anndata(
        cls,
        adata: AnnData,
        reference_model: str | Path | Self,
        return_reference_var_names: bool = False,
        inplace: bool = True,
    ) -> AnnData | pd.Index | None:
        """As :meth:`scvi.model.SCVI.prepare_query_anndata`: genes padded and sorted as the reference has them.

        Raises
        ------
        TypeError
            Unless the cells are an AnnData; none are needed for the names alone.

        Examples
        --------
        >>> reversed_genes = adata[:, ::-1].copy()
        >>> DBDiffusion.prepare_query_anndata(reversed_genes, model)
        >>> list(reversed_genes.var_names) == list(adata.var_names)
        True
        """
        if not return_reference_var_names:
            check_kind(adata)
        return super().prepare_query_anndata(adata, reference_model, return_reference_var_names, inplace)

    @classmethod
    def prepare_query_mudata(
        cls,
        mdata: MuData,
        reference_model: str | Path | Self,
        return_reference_var_names: bool = False,
        inplace: bool = True,
    ) -> MuData | dict[str, pd.Index] | None:
        """As :meth:`scvi.model.SCVI.prepare_query_mudata`: genes padded and sorted as the reference has them.

        Raises
        ------
        TypeError
            Unless the cells are a MuData; none are needed for the names alone.

        Examples
        --------
        >>> DBDiffusion.prepare_query_mudata(adata, model)
        Traceback (most recent call last):
        ...
        TypeError: The cells must be a MuData...
        """
        if not return_reference_var_names:
            check_kind(mdata, is_mudata=True)
        return super().prepare_query_mudata(mdata, reference_model, return_reference_var_names, inplace)

    def _start_afresh(self, *, knows_all_categories: bool) -> None:
        """Reset what belongs to the reference's cells; read the new screen."""
        self.is_vae_trained_ = self.is_trained_ = knows_all_categories
        self.history_ = self.train_indices_ = self.validation_indices_ = self.test_indices_ = None
        self._forget_predictors()
        self._cached_screen = None
        if self.is_diffusion_trained_:
            self.reference_screen_ = self.screen_
            self._cached_screen = self._read_screens()[0]
            self.screen_ = self._cached_screen.to_dict()


def _genes_in(adata: AnnData | MuData, setup: dict[str, Any]) -> pd.Index:
    rna = (setup.get("modalities") or {"rna_layer": "rna"})["rna_layer"]
    if not isinstance(adata, MuData):
        return adata.var_names
    check_modalities(adata, {rna})
    return adata.mod[rna].var_names


def _sizes(module: Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


class Registration(
    SetupMixin,
    RnaMixin,
    DoorMixin,
    MinifiedMixin,
    PretrainedMixin,
    QueryMixin,
    PerturbationMixin,
    TargetCellsMixin,
    TargetsMixin,
):
    """Set-up, doors of cells, names."""
