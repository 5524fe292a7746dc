"""A trained model meets new cells, with perturbations that it never saw measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mudata import MuData

from dbdiffusion.data import check_genes, check_kind, check_modalities
from dbdiffusion.model._screen import genes_of

if TYPE_CHECKING:
    from typing import Self

    import pandas as pd
    from anndata import AnnData
    from scvi.model import SCVI as _Base
    from torch.nn import Module
else:
    _Base = object

PREPARE = "Run `DBDiffusion.prepare_query_anndata(adata, reference_model)` first, which pads and sorts."


class QueryMixin(_Base):
    """``load_query_data``."""

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
