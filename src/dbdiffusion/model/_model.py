"""The model: an scvi-tools model that generates cells of perturbations nobody measured and tests their effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from scvi.model import SCVI

from dbdiffusion._keys import REGISTRY
from dbdiffusion.data import PerturbationField, check_kind, contexts_of
from dbdiffusion.model._cross_fit import CrossFittingMixin
from dbdiffusion.model._module import DBDiffusionVAE, check_sizes_of_model
from dbdiffusion.model._predictors import one_at_a_time
from dbdiffusion.model._questions import Questions
from dbdiffusion.model._registration import Registration
from dbdiffusion.model._storage import Storage

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


@one_at_a_time(lambda model: model)
class DBDiffusion(Storage, Registration, CrossFittingMixin, Questions, SCVI):  # type: ignore[override]
    """Latent diffusion on perturbations, on top of :class:`scvi.model.SCVI`, with prediction-powered inference.

    Stage one is scvi's VAE on counts. Stage two diffuses its latent space under the embedding of a perturbation. Effects
    of perturbations nobody measured are rectified by the measured ones and come with prediction intervals.

    Parameters
    ----------
    adata
        Registered by :meth:`setup_anndata` or :meth:`setup_mudata`.
    registry
        Of a registered AnnData, to build the model without one.
    n_hidden, n_latent, n_layers, dropout_rate, dispersion, gene_likelihood
        Of the VAE, as in :class:`scvi.model.SCVI`.
    n_embedding
        E, dimensions of a perturbation's embedding (PCA of the effects); never more than perturbations less one.
    n_diffusion_hidden, n_diffusion_blocks
        Size of the denoising network.
    n_folds
        Folds of perturbations for cross-fitting.
    **kwargs
        Passed to :class:`scvi.module.VAE`.

    Raises
    ------
    ValueError
        For a likelihood that is none of counts, a logistic-normal latent, or a size out of range.

    References
    ----------
    Shang, Wei & Roeder, PNAS 122(52) e2525268122 (2025).

    Examples
    --------
    >>> from dbdiffusion import DBDiffusion
    >>> from dbdiffusion.data import simulate_screen
    >>> adata = simulate_screen(n_genes=40, n_perturbations=6, n_cells_per_perturbation=20, n_control_cells=40)
    >>> DBDiffusion.setup_anndata(adata)
    >>> model = DBDiffusion(adata, n_latent=5, n_folds=2)
    >>> model.perturbation_names[:2] == sorted(model.perturbation_names)[:2]
    True
    """

    _module_cls = DBDiffusionVAE
    _LATENT_QZM_KEY = "dbdiffusion_latent_qzm"
    _LATENT_QZV_KEY = "dbdiffusion_latent_qzv"

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict | None = None,
        n_hidden: int = 128,
        n_latent: int = 20,
        n_layers: int = 1,
        dropout_rate: float = 0.1,
        dispersion: Literal["gene", "gene-batch", "gene-label", "gene-cell"] = "gene",
        gene_likelihood: Literal["nb", "zinb", "poisson"] = "nb",
        n_embedding: int = 32,
        n_diffusion_hidden: int = 128,
        n_diffusion_blocks: int = 3,
        n_folds: int = 5,
        **kwargs: Any,
    ) -> None:
        _check_registry(registry)
        _check_distributions(gene_likelihood, kwargs.get("latent_distribution", "normal"))
        sizes = check_sizes_of_model(
            dropout_rate,
            n_hidden=n_hidden,
            n_latent=n_latent,
            n_layers=n_layers,
            n_embedding=n_embedding,
            n_diffusion_hidden=n_diffusion_hidden,
            n_diffusion_blocks=n_diffusion_blocks,
            n_folds=n_folds,
        )
        super().__init__(
            adata=adata,
            registry=registry,
            **sizes,
            dispersion=dispersion,
            gene_likelihood=gene_likelihood,
            n_context=self._n_contexts(adata, registry),
            **kwargs,
        )
        self.is_vae_trained_ = False
        self.is_diffusion_trained_ = False
        self._rna_of_mudata: dict = {}
        self._predictors = {}
        self._revision = 0
        self._cached_screen = None
        self._keeps_latent_space = False
        self.screen_ = None
        self.reference_screen_ = None
        self.cross_fit_ = None
        self.context_screens_ = None
        self.added_perturbations_: list[str] = []
        self.added_vectors_: pd.DataFrame | None = None
        self.own_predictors_: dict[str, Any] | None = None
        self._model_summary_string = (
            "DBDiffusion model with the following parameters: \n"
            f"n_hidden: {n_hidden}, n_latent: {n_latent}, n_layers: {n_layers}, gene_likelihood: {gene_likelihood}, "
            f"n_embedding: {n_embedding}, n_diffusion_hidden: {n_diffusion_hidden}, "
            f"n_diffusion_blocks: {n_diffusion_blocks}, n_folds: {n_folds}."
        )
        self.init_params_ = self._get_init_params(locals())

    @classmethod
    def _n_contexts(cls, adata: AnnData | MuData | None, registry: dict | None) -> int:
        if registry is None and adata is not None:
            check_kind(adata, is_mudata=None)
            registry = cls._get_most_recent_anndata_manager(adata, required=True).registry
        return len(contexts_of(registry or {}))

    @property
    def perturbation_names(self) -> list[str]:
        """Registered perturbations but control: those with cells, then those added.

        Examples
        --------
        >>> model.perturbation_names[0], unseen[0] in model.perturbation_names
        ('GENE02', False)
        """
        state = self.registry_["field_registries"][REGISTRY.PERTURBATION]["state_registry"]
        names = [name for name in state[PerturbationField.WITH_CELLS] if name != state[PerturbationField.CONTROL]]
        return names + [name for name in self.added_perturbations_ if name not in names]


def _check_registry(registry: dict | None) -> None:
    if registry is not None and REGISTRY.PERTURBATION not in registry.get("field_registries", {}):
        msg = (
            "`registry` has no perturbations: it was not made by DBDiffusion. Custom data modules (annbatch, TileDB, Lamin) "
            "cannot name perturbations, so they cannot be used; set up an AnnData, which may be backed."
        )
        raise ValueError(msg)


def _check_distributions(gene_likelihood: str, latent_distribution: str) -> None:
    if not isinstance(gene_likelihood, str) or gene_likelihood not in ("nb", "zinb", "poisson"):
        msg = f"`gene_likelihood` must be one of ['nb', 'poisson', 'zinb'], got {gene_likelihood!r}: effects need counts."
        raise ValueError(msg)
    if not isinstance(latent_distribution, str) or latent_distribution != "normal":
        msg = f"`latent_distribution` must be 'normal', got {latent_distribution!r}: a simplex cannot be diffused."
        raise ValueError(msg)
