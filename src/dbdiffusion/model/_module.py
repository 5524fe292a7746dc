"""The module: scvi's VAE, unchanged, with a latent diffusion beside it and one more for every cross-fitting fold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from scvi.module import VAE
from torch import nn

from dbdiffusion.diffusion import LatentDiffusion

if TYPE_CHECKING:
    from typing import Self

Stage = Literal["vae", "diffusion"]


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
        Folds of perturbations for cross-fitting, each with a diffusion of its own.
    **kwargs
        Passed to :class:`scvi.module.VAE`.

    Examples
    --------
    >>> module = DBDiffusionVAE(n_embedding=3, n_diffusion_hidden=16, n_diffusion_blocks=1, n_folds=2, n_input=11)
    >>> len(module.folds)
    2
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
        self.diffusion = LatentDiffusion(*sizes)
        self.folds = nn.ModuleList(LatentDiffusion(*sizes) for _ in range(n_folds))
        self._stage: Stage = "vae"
        self._frozen: frozenset[str] = frozenset()
        self.set_stage("vae")

    @property
    def diffusions(self) -> tuple[LatentDiffusion, ...]:
        """The main latent diffusion and those of the folds."""
        return (self.diffusion, *self.folds)  # type: ignore[arg-type]

    def keep_frozen(self) -> None:
        """What is frozen now, as scArches leaves it, stays frozen in stage one."""
        self._frozen = frozenset(name for name, parameter in self.named_parameters() if not parameter.requires_grad)

    def set_stage(self, stage: Stage) -> None:
        """Choose what trains: the VAE (a denoiser gets no gradient) or the denoisers (the VAE is frozen, in eval mode)."""
        self._stage = stage
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(stage == "vae" and name not in self._frozen)
        for diffusion in self.diffusions:
            diffusion.denoiser.requires_grad_(stage == "diffusion")
            diffusion.averaged.requires_grad_(requires_grad=False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As torch's, but the VAE stays in eval mode while a denoiser trains, whoever calls this."""
        super().train(mode)
        if self._stage == "diffusion":
            for name, child in self.named_children():
                if name not in ("diffusion", "folds"):
                    child.eval()
        return self
