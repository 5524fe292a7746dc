"""Minified data: latents instead of counts. Stage two and generation live on it, what needs counts refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mudata import MuData

from dbdiffusion._compat import ADATA_MINIFY_TYPE
from dbdiffusion.model._screen import check_has_cells

if TYPE_CHECKING:
    from scvi.model import SCVI as _Base
else:
    _Base = object


class MinifiedMixin(_Base):
    """``minify_adata``."""

    screen_: dict | None

    def minify_adata(
        self,
        minified_data_type: str = ADATA_MINIFY_TYPE.LATENT_POSTERIOR,
        use_latent_qzm_key: str = "X_latent_qzm",
        use_latent_qzv_key: str = "X_latent_qzv",
    ) -> None:
        """Give the model a minified copy of its AnnData, see scvi-tools; the observed effects are read from the counts first.

        On it :meth:`train_diffusion`, :meth:`generate`, :meth:`predict_effects` and
        :meth:`differential_expression_ppi` work. :meth:`train_vae`, :meth:`cross_fit` and :meth:`observed_effects` need counts.

        Parameters
        ----------
        minified_data_type
            ``"latent_posterior_parameters"``, or ``"latent_posterior_parameters_with_counts"``, which keeps the counts.
        use_latent_qzm_key, use_latent_qzv_key
            Keys of ``obsm`` with the answer of ``model.get_latent_representation(return_dist=True)``.

        Raises
        ------
        NotImplementedError
            For a MuData.
        KeyError
            If ``obsm`` lacks a key.

        Examples
        --------
        >>> import copy
        >>> copied = copy.deepcopy(model)
        >>> mean, variance = copied.get_latent_representation(return_dist=True)
        >>> copied.adata.obsm["X_latent_qzm"], copied.adata.obsm["X_latent_qzv"] = mean, variance
        >>> copied.minify_adata()
        >>> copied.generate(unseen[0], n_cells=3).n_obs
        3
        """
        check_has_cells(self.adata)
        if isinstance(self.adata, MuData):
            msg = "A MuData cannot be minified. Set up the AnnData of its RNA (`setup_anndata`) and minify that."
            raise NotImplementedError(msg)
        absent = [key for key in (use_latent_qzm_key, use_latent_qzv_key) if key not in self.adata.obsm]
        if absent:
            msg = (
                f"{absent} must be in adata.obsm, which has {list(self.adata.obsm)}: first "
                f"`adata.obsm[{use_latent_qzm_key!r}], adata.obsm[{use_latent_qzv_key!r}] = "
                "model.get_latent_representation(return_dist=True)`."
            )
            raise KeyError(msg)
        options: dict[str, Any] = {
            "use_latent_qzm_key": use_latent_qzm_key,
            "use_latent_qzv_key": use_latent_qzv_key,
        }
        screen, contexts = self._read_screens()
        self.screen_ = screen.to_dict()
        self.context_screens_ = {name: one.to_dict() for name, one in contexts.items()} or None
        super().minify_adata(minified_data_type, **options)
