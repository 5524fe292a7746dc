"""The module: scvi's VAE, unchanged, with a latent diffusion beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from scvi.module import VAE

from dbdiffusion.diffusion import LatentDiffusion

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from torch import Tensor

Stage = Literal["vae", "diffusion"]
FOLDS = "folds."  # what the names of weights of folds began with, when every module carried them


class DBDiffusionVAE(VAE):
    """:class:`scvi.module.VAE` plus a :class:`~dbdiffusion.diffusion.LatentDiffusion`.

    Parameters
    ----------
    n_embedding
        E, size of a perturbation's embedding.
    n_context
        Contexts, told to the diffusion beside the embedding.
    n_diffusion_hidden, n_diffusion_blocks
        Size of the denoising network.
    n_folds
        Folds of perturbations for cross-fitting, whose diffusions are made when they are trained.
    **kwargs
        Passed to :class:`scvi.module.VAE`.

    Examples
    --------
    >>> module = DBDiffusionVAE(n_embedding=3, n_diffusion_hidden=16, n_diffusion_blocks=1, n_folds=2, n_input=11)
    >>> module.new_diffusion().mean.shape == module.diffusion.mean.shape
    True
    """

    def __init__(
        self,
        *,
        n_embedding: int,
        n_diffusion_hidden: int,
        n_diffusion_blocks: int,
        n_folds: int,
        n_context: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.n_embedding, self.n_context = n_embedding, n_context
        sizes = (self.n_latent, n_embedding + n_context, n_diffusion_hidden, n_diffusion_blocks)
        self._sizes, self.n_folds = sizes, n_folds
        self.diffusion = LatentDiffusion(*sizes)
        self.folds_of_before: dict[str, Tensor] = {}
        self.was_loaded_with_folds = False
        self._stage: Stage = "vae"
        self._frozen: frozenset[str] = frozenset()
        self.set_stage("vae")

    def new_diffusion(self) -> LatentDiffusion:
        """Another latent diffusion of the same size, untrained, on the same device; it is no part of the module."""
        diffusion = LatentDiffusion(*self._sizes).to(self.diffusion.mean.device)
        diffusion.averaged.requires_grad_(requires_grad=False)
        return diffusion

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **options: Any) -> Any:
        """As torch's; weights of folds, which earlier versions kept here, are laid aside in ``folds_of_before``."""
        self.folds_of_before = {name: value for name, value in state_dict.items() if name.startswith(FOLDS)}
        self.was_loaded_with_folds = bool(self.folds_of_before)
        own = {name: value for name, value in state_dict.items() if not name.startswith(FOLDS)}
        return super().load_state_dict(own, *args, **options)

    def keep_frozen(self) -> None:
        """What is frozen now, as scArches leaves it, stays frozen in stage one."""
        self._frozen = frozenset(name for name, parameter in self.named_parameters() if not parameter.requires_grad)

    def set_stage(self, stage: Stage) -> None:
        """Choose what trains: the VAE (a denoiser gets no gradient) or the denoisers (the VAE is frozen, in eval mode)."""
        self._stage = stage
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(stage == "vae" and name not in self._frozen)
        self.diffusion.denoiser.requires_grad_(stage == "diffusion")
        self.diffusion.averaged.requires_grad_(requires_grad=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As torch's, but the VAE stays in eval mode while a denoiser trains, whoever calls this."""
        super().train(mode)
        if self._stage == "diffusion":
            for name, child in self.named_children():
                if name != "diffusion":
                    child.eval()
        return self
