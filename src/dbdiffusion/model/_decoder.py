"""The VAE as a decoder: latents to counts, or to their mean, by its own ``generative``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from scvi import REGISTRY_KEYS

from dbdiffusion.model._counts import sample_counts
from dbdiffusion.model._expectation import differences_from, expected_log1p

if TYPE_CHECKING:
    from collections.abc import Callable

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

    def differences(self, z: Tensor, matched: Matched) -> Callable[[Tensor], Tensor]:
        """From latents (t, S, D) to how far their mean log1p CP10K (t, S, G) lies from that of latents (S, D)."""
        if self.module.dispersion == "gene-cell":  # then not only means differ
            return partial(self._integrated, matched, self.expected(z, matched))
        table = differences_from(self._counts(z, matched), matched.scale)
        return lambda others: table(self._counts(others.flatten(0, 1), matched.repeated(len(others))))

    def _integrated(self, matched: Matched, here: Tensor, others: Tensor) -> Tensor:
        there = self.expected(others.flatten(0, 1), matched.repeated(len(others)))
        return there.unflatten(0, others.shape[:2]) - here

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
