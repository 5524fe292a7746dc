"""From embeddings to cells: draw latents, decode them by the VAE's own ``generative`` under control's covariates."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scvi import REGISTRY_KEYS

from dbdiffusion.diffusion import SAMPLERS, draw_noise, steps_of
from dbdiffusion.model._counts import sample_counts
from dbdiffusion.model._expectation import expected_log1p
from dbdiffusion.model._options import real_number, whole_number, word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from torch.distributions import Distribution

    from dbdiffusion.diffusion import LatentDiffusion
    from dbdiffusion.model._module import DBDiffusionVAE
    from dbdiffusion.screen import Screen

MOST_GUIDANCE = 100.0  # far above what makes sense; from about 1e19 on the latents overflow
BLOCK = 512  # cells that share a noise generator: a cell depends on its block and, but for rounding, on no chunk
ACTIVATIONS_AT_ONCE = 4 * 2**20  # bytes of a layer: more leave a CPU's cache, fewer pay more often for starting every operation
AT_ONCE_ON_ACCELERATORS = 65_536  # latents
DECODED_AT_ONCE = 2**20  # values (cells x genes): fewer calls of the decoder, each of which looks through all parameters


@dataclass(frozen=True)
class GenerationOptions:
    """How cells are drawn; every field is a plain value, whatever type of number it was given as.

    Parameters
    ----------
    guidance_scale
        1 is none; 100 at most.
    sampler, n_steps
        See :func:`~dbdiffusion.diffusion.sample`.
    batch
        Category of the batch key to generate in; None draws batches as control cells have them.
    seed
        Same seed, same cells.
    fixed
        Covariates that are the same for all cells: registry key, column, and code or value.

    Raises
    ------
    ValueError
        If one is out of range, or no number.
    """

    guidance_scale: float = 1.0
    sampler: str = "dpm++"
    n_steps: int | None = None
    batch: int | None = None
    seed: int = 0
    fixed: tuple[tuple[str, int, float], ...] = ()

    def __post_init__(self) -> None:
        plain = {
            "sampler": word("sampler", self.sampler, tuple(sorted(SAMPLERS))),
            "guidance_scale": real_number("guidance_scale", self.guidance_scale, 0, MOST_GUIDANCE),
            "seed": whole_number("seed", self.seed),
        }
        n_steps = None if self.n_steps is None else whole_number("n_steps", self.n_steps)
        plain["n_steps"] = steps_of(str(self.sampler), n_steps)  # recorded as it was used
        for name, value in plain.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class _Matched:
    """What the decoder is told of S matched control cells, and the factor (S, 1) from their counts to CP10K."""

    inputs: dict[str, Tensor | None]
    scale: Tensor

    def repeated(self, n: int) -> _Matched:
        """The same cells (n S), n times one after the other."""
        inputs = {key: None if values is None else values.repeat(n, 1) for key, values in self.inputs.items()}
        return _Matched(inputs, self.scale.repeat(n, 1))


class Generator:
    """Draws cells of perturbations given by their embeddings.

    Library sizes, batches and covariates come from random control cells, the same for every target, and so does the
    noise of the latents: contrasts between targets are free of both (common random numbers).

    Parameters
    ----------
    module
        In eval mode.
    diffusion
        The module's own, or a fold's.
    screen
        Holds control's library sizes and covariates.
    options
        How to draw.
    """

    def __init__(self, module: DBDiffusionVAE, diffusion: LatentDiffusion, screen: Screen, options: GenerationOptions) -> None:
        self._module, self._diffusion, self._screen, self._options = module, diffusion, screen, options
        self._device = diffusion.mean.device

    def counts(self, condition: Tensor, n_cells: int, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of sampled counts (B, G) under a condition (E,), and the control cells (B,) they are matched to."""
        for block in range(-(-n_cells // BLOCK)):
            left = n_cells - block * BLOCK
            counts, matched = self._block(condition, block, name)
            yield counts[:left], matched[:left]

    @torch.no_grad()
    def _block(self, condition: Tensor, block: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        matched = self._control_cells(block)
        z = self._latents(condition[None], self._noise(block))
        generator = torch.Generator(z.device).manual_seed(_stable_seed(self._options.seed, "counts", name, block))
        return sample_counts(self._decode(z, self._matched(matched)), generator).cpu().numpy(), matched

    @torch.no_grad()
    def effects(
        self, conditions: Tensor, control: Tensor, n_cells: int, n_at_once: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean effects (T, G) of conditions (T, E) against a control condition (E,), and their Monte-Carlo variances.

        Counts are integrated out (:func:`~dbdiffusion.model._expectation.expected_log1p`), so the variance is that of
        the difference between paired cells over ``n_cells``. The network sees ``n_at_once`` conditions together; None means as
        many as suit the device.
        """
        n_at_once = n_at_once or max(1, latents_at_once(self._diffusion) // min(n_cells, BLOCK))
        total, squares = np.zeros((2, len(conditions), len(self._screen.var_names)))
        for block in range(-(-n_cells // BLOCK)):
            size = min(BLOCK, n_cells - block * BLOCK)
            noise, matched = self._noise(block)[:, :size], self._matched(self._control_cells(block)[:size])
            reference = self._expected(self._latents(control[None], noise), matched)
            for rows, expected in self._decoded(conditions, noise, matched, n_at_once):
                difference = (expected - reference).double()
                total[rows] += difference.sum(dim=1).cpu().numpy()
                squares[rows] += (difference**2).sum(dim=1).cpu().numpy()
        mean = total / n_cells
        return mean, np.maximum(squares / n_cells - mean**2, 0) / max(n_cells - 1, 1)

    def _decoded(self, conditions: Tensor, noise: Tensor, matched: _Matched, n_at_once: int) -> Iterator[tuple[slice, Tensor]]:
        """Rows of conditions (T, E), a few at a time, and the expected expression (t, S, G) of their cells."""
        n_decoded = max(1, DECODED_AT_ONCE // (noise.shape[1] * len(self._screen.var_names)))
        done = 0
        for chunk in conditions.split(n_at_once):
            for z in self._latents(chunk[:, None], noise[:, None]).split(n_decoded):
                expected = self._expected(z.flatten(0, 1), matched.repeated(len(z)))
                yield slice(done, done := done + len(z)), expected.unflatten(0, z.shape[:2])

    def _noise(self, block: int) -> Tensor:
        seed = _stable_seed(self._options.seed, "latent", block)
        n_latent = self._diffusion.mean.shape[0]
        return draw_noise(BLOCK, n_latent, self._options.sampler, self._options.n_steps, seed).to(self._device)

    def _latents(self, conditions: Tensor, noise: Tensor) -> Tensor:
        o = self._options
        return self._diffusion.sample(conditions, noise, o.guidance_scale, o.sampler, o.n_steps)

    def _control_cells(self, block: int) -> np.ndarray:
        rng = np.random.default_rng(_stable_seed(self._options.seed, "cells", block))
        pool = np.arange(len(self._screen.library))
        if self._options.batch is not None:
            in_batch = self._screen.context[REGISTRY_KEYS.BATCH_KEY].ravel() == self._options.batch
            pool = pool[in_batch] if in_batch.any() else pool
        return rng.choice(pool, BLOCK)

    def _matched(self, cells: np.ndarray) -> _Matched:
        library = self._tensor(self._screen.library[cells])[:, None]
        context = {key: self._tensor(values[cells]) for key, values in self._screen.context.items()}
        for key, column, value in self._options.fixed:
            context[key][:, column] = value
        codes = {key: values.long() for key, values in context.items() if key != REGISTRY_KEYS.CONT_COVS_KEY}
        batch = codes[REGISTRY_KEYS.BATCH_KEY]
        if self._options.batch is not None:
            batch = torch.full_like(batch, self._options.batch)
        inputs = {
            "library": library.log(),
            "batch_index": batch,
            "y": codes.get(REGISTRY_KEYS.LABELS_KEY),
            "cat_covs": codes.get(REGISTRY_KEYS.CAT_COVS_KEY),
            "cont_covs": context.get(REGISTRY_KEYS.CONT_COVS_KEY),
            "size_factor": library.log(),
        }
        return _Matched(inputs, 1e4 / (library * self._screen.depth_per_library))

    def _expected(self, z: Tensor, matched: _Matched) -> Tensor:
        return expected_log1p(self._decode(z, matched), matched.scale)

    def _decode(self, z: Tensor, matched: _Matched) -> Distribution:
        return self._module.generative(z=z, **matched.inputs)["px"]

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._device)


def latents_at_once(diffusion: LatentDiffusion) -> int:
    """Latents that a network samples together on its device."""
    denoiser, device = diffusion.averaged, diffusion.mean.device
    if device.type != "cpu":
        return AT_ONCE_ON_ACCELERATORS
    bytes_per_number = 2 if denoiser.computes_in_bfloat16(device) else 4
    return max(1, ACTIVATIONS_AT_ONCE // (denoiser.network.n_hidden * bytes_per_number))


def _stable_seed(*parts: int | str) -> int:
    """Of plain numbers and text: numpy's have another ``repr``, which its print options change."""
    return zlib.crc32(repr(tuple(str(part) if isinstance(part, str) else int(part) for part in parts)).encode())
