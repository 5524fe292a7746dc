"""The VAE as a decoder: latents to counts, or to their mean, by its own ``generative``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scvi import REGISTRY_KEYS

from dbdiffusion.model._counts import sample_counts
from dbdiffusion.model._expectation import expected_log1p

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.distributions import Distribution

    from dbdiffusion.model._module import DBDiffusionVAE
    from dbdiffusion.predict import Matched


@dataclass(frozen=True)
class VAEDecoder:
    """What :class:`dbdiffusion.predict.Decoder` asks for.

    Parameters
    ----------
    module
        In eval mode.
    """

    module: DBDiffusionVAE

    def expected(self, z: Tensor, matched: Matched) -> Tensor:
        """Mean log1p CP10K (S, G) of latents (S, D), counts integrated out."""
        return expected_log1p(self._counts(z, matched), matched.scale)

    def sample(self, z: Tensor, matched: Matched, generator: torch.Generator) -> Tensor:
        """Counts (S, G) of latents (S, D)."""
        return sample_counts(self._counts(z, matched), generator)

    def _counts(self, z: Tensor, matched: Matched) -> Distribution:
        codes = {key: values.long() for key, values in matched.covariates.items() if key != REGISTRY_KEYS.CONT_COVS_KEY}
        return self.module.generative(
            z=z,
            library=matched.library.log(),
            batch_index=codes[REGISTRY_KEYS.BATCH_KEY],
            y=codes.get(REGISTRY_KEYS.LABELS_KEY),
            cat_covs=codes.get(REGISTRY_KEYS.CAT_COVS_KEY),
            cont_covs=matched.covariates.get(REGISTRY_KEYS.CONT_COVS_KEY),
            size_factor=matched.library.log(),
        )["px"]
