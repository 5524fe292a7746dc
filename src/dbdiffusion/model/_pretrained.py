"""Stage one taken from a trained :class:`scvi.model.SCVI`."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from scvi.model import SCVI
from scvi.module import VAE

from dbdiffusion._compat import minified_type
from dbdiffusion.data import check_kind

if TYPE_CHECKING:
    from typing import Self

    from anndata import AnnData
    from scvi.model import SCVI as _Base
else:
    _Base = object

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
