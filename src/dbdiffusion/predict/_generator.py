"""From embeddings to cells: draw latents under an embedding, decode them under the covariates of matched control cells."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from dbdiffusion._keys import BATCH
from dbdiffusion.diffusion import draw_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor

    from dbdiffusion.diffusion import LatentDiffusion
    from dbdiffusion.predict._predictor import GenerationOptions
    from dbdiffusion.screen import Screen

BLOCK = 512  # cells that share a noise generator: a cell depends on its block and, but for rounding, on no chunk
ACTIVATIONS_AT_ONCE = 4 * 2**20  # bytes of a layer: more leave a CPU's cache, fewer pay more often for starting every operation
AT_ONCE_ON_ACCELERATORS = 65_536  # latents
KEPT_VALUES = 2**24  # values (cells x genes) of control whose differences are kept, some forty bytes each
DECODED_AT_ONCE = 2**20  # values (cells x genes): fewer calls of the decoder, each of which looks through all parameters


@dataclass(frozen=True, eq=False)
class Matched:
    """What a decoder is told of S matched control cells.

    Parameters
    ----------
    library
        (S, 1).
    covariates
        Registry key to codes or values (S, ...).
    scale
        (S, 1), from their counts to CP10K.

    Examples
    --------
    >>> matched = Matched(torch.ones(2, 1), {"batch": torch.zeros(2, 1)}, torch.ones(2, 1))
    >>> matched.repeated(3).library.shape
    torch.Size([6, 1])
    """

    library: Tensor
    covariates: dict[str, Tensor]
    scale: Tensor

    def repeated(self, n: int) -> Matched:
        """The same cells (n S), n times one after the other."""
        covariates = {key: values.repeat(n, 1) for key, values in self.covariates.items()}
        return Matched(self.library.repeat(n, 1), covariates, self.scale.repeat(n, 1))


class Decoder(Protocol):
    """From latents (S, D) to expression (S, G), as matched control cells have libraries and covariates.

    Examples
    --------
    Anything with these two methods will do. That of a trained model:

    >>> decoder = model.predictor().generator.decoder
    >>> callable(decoder.differences), callable(decoder.sample)
    (True, True)
    """

    def differences(self, z: Tensor, matched: Matched) -> Callable[[Tensor], Tensor]:
        """From latents (t, S, D) to how far their mean log1p CP10K (t, S, G) lies from that of the latents here (S, D)."""
        ...

    def sample(self, z: Tensor, matched: Matched, generator: torch.Generator) -> Tensor:
        """Counts."""
        ...


@dataclass(frozen=True)
class Conditions:
    """Which condition a network was trained to see of a perturbation: its embedding, padded, and the context's unit vector.

    Parameters
    ----------
    n_embedding, n_context
        Widths that the network was built for.
    context
        Number of the context; None for none.

    Examples
    --------
    >>> Conditions(3, 2, context=1).of(np.ones((1, 2)))
    tensor([[1., 1., 0., 0., 1.]])
    """

    n_embedding: int
    n_context: int = 0
    context: int | None = None

    def of(self, embedding: np.ndarray) -> Tensor:
        """Conditions (n, width) of embeddings (n, E)."""
        padded = np.zeros((len(embedding), self.n_embedding + self.n_context), dtype=np.float32)
        padded[:, : embedding.shape[1]] = embedding
        if self.context is not None:
            padded[:, self.n_embedding + self.context] = 1.0
        return torch.as_tensor(padded)


@dataclass(frozen=True, eq=False)
class Generator:
    """Draws cells of perturbations given by their embeddings.

    Library sizes, batches and covariates come from random control cells, the same for every target, and so does the
    noise of the latents: contrasts between targets are free of both (common random numbers).

    Parameters
    ----------
    decoder
        In eval mode.
    diffusion
        The model's own, or a fold's.
    screen
        Holds control's library sizes and covariates.
    conditions
        How the network is told of a perturbation.
    track
        Of steps to the same steps, to show progress.

    Examples
    --------
    >>> from dbdiffusion.predict import GenerationOptions
    >>> predictor = model.predictor()
    >>> embedding = predictor.space.embed(unseen[:1])[0]
    >>> blocks = predictor.generator.counts(embedding, 8, unseen[0], GenerationOptions())
    >>> [counts.shape for counts, _ in blocks] == [(8, adata.n_vars)]
    True
    """

    decoder: Decoder
    diffusion: LatentDiffusion
    screen: Screen
    conditions: Conditions
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter
    _kept: dict[tuple, Callable[[Tensor], Tensor]] = field(default_factory=dict, repr=False, init=False)

    def of_fold(self, diffusion: LatentDiffusion) -> Generator:
        """The same with another diffusion."""
        return replace(self, diffusion=diffusion)

    def counts(
        self, embedding: np.ndarray, n_cells: int, name: str, options: GenerationOptions
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of sampled counts (B, G) under an embedding (E,), and the control cells (B,) they are matched to."""
        condition = self.conditions.of(embedding[None]).to(self._device)
        for block in self.track(range(-(-n_cells // BLOCK))):
            left = n_cells - block * BLOCK
            cells = self._control_cells(block, options)
            with torch.no_grad():
                z = self._latents(condition, self._noise(block, options), options)
                generator = torch.Generator(z.device).manual_seed(_stable_seed(options.seed, "counts", name, block))
                counts = self.decoder.sample(z, self._matched(cells, options), generator).cpu().numpy()
            yield counts[:left], cells[:left]

    @torch.no_grad()
    def effects(
        self,
        embeddings: np.ndarray,
        control: np.ndarray,
        n_cells: int,
        options: GenerationOptions,
        n_at_once: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean effects (T, G) of embeddings (T, E) against control's (E,), and their Monte-Carlo variances.

        Counts are integrated out by the decoder, so the variance is that of the difference between paired cells over
        ``n_cells``. The network sees ``n_at_once`` conditions together; None means as many as suit the device.
        """
        conditions = self.conditions.of(embeddings).to(self._device)
        n_at_once = n_at_once or max(1, latents_at_once(self.diffusion) // min(n_cells, BLOCK))
        total, squares = np.zeros((2, len(conditions), len(self.screen.var_names)))
        steps = [(block, start) for block in range(-(-n_cells // BLOCK)) for start in range(0, len(conditions), n_at_once)]
        for block, start in self.track(steps):
            if start == 0:
                size = min(BLOCK, n_cells - block * BLOCK)
                noise = self._noise(block, options)[:, :size]
                differences = self._differences(control, block, noise, options)
            for rows, difference in self._decoded(conditions, slice(start, start + n_at_once), noise, differences, options):
                total[rows] += difference.sum(dim=1).cpu().numpy()
                squares[rows] += difference.square_().sum(dim=1).cpu().numpy()
        mean = total / n_cells
        return mean, np.maximum(squares / n_cells - mean**2, 0) / max(n_cells - 1, 1)

    def _decoded(
        self,
        conditions: Tensor,
        together: slice,
        noise: Tensor,
        differences: Callable[[Tensor], Tensor],
        options: GenerationOptions,
    ) -> Iterator[tuple[slice, Tensor]]:
        """Rows of conditions (T, E) sampled together, and how far their cells' expression (t, S, G) is from control's."""
        n_decoded = max(1, DECODED_AT_ONCE // (noise.shape[1] * len(self.screen.var_names)))
        done = together.start
        for z in self._latents(conditions[together][:, None], noise[:, None], options).split(n_decoded):
            yield slice(done, done := done + len(z)), differences(z)

    def _differences(
        self, control: np.ndarray, block: int, noise: Tensor, options: GenerationOptions
    ) -> Callable[[Tensor], Tensor]:
        """The decoder's differences from control's cells of a block; kept, since making them takes as long as ten targets."""
        size, in_bfloat16 = noise.shape[1], self.diffusion.averaged.computes_in_bfloat16(self._device)
        key = (control.tobytes(), block, size, options, in_bfloat16)
        if key not in self._kept:
            if (len(self._kept) + 1) * size * len(self.screen.var_names) > KEPT_VALUES:
                self._kept.clear()
            z = self._latents(self.conditions.of(control[None]).to(self._device), noise, options)
            self._kept[key] = self.decoder.differences(z, self._matched(self._control_cells(block, options)[:size], options))
        return self._kept[key]

    @property
    def _device(self) -> torch.device:
        return self.diffusion.mean.device

    def _noise(self, block: int, options: GenerationOptions) -> Tensor:
        seed = _stable_seed(options.seed, "latent", block)
        n_latent = self.diffusion.mean.shape[0]
        return draw_noise(BLOCK, n_latent, options.sampler, options.n_steps, seed).to(self._device)

    def _latents(self, conditions: Tensor, noise: Tensor, options: GenerationOptions) -> Tensor:
        return self.diffusion.sample(conditions, noise, options.guidance_scale, options.sampler, options.n_steps)

    def _control_cells(self, block: int, options: GenerationOptions) -> np.ndarray:
        rng = np.random.default_rng(_stable_seed(options.seed, "cells", block))
        pool = np.arange(len(self.screen.library))
        if options.batch is not None:
            in_batch = self.screen.covariates[BATCH].ravel() == options.batch
            pool = pool[in_batch] if in_batch.any() else pool
        return rng.choice(pool, BLOCK)

    def _matched(self, cells: np.ndarray, options: GenerationOptions) -> Matched:
        library = self._tensor(self.screen.library[cells])[:, None]
        covariates = {key: self._tensor(values[cells]) for key, values in self.screen.covariates.items()}
        for key, column, value in options.fixed:
            covariates[key][:, column] = value
        if options.batch is not None:
            covariates[BATCH] = torch.full_like(covariates[BATCH], options.batch)
        return Matched(library, covariates, 1e4 / (library * self.screen.depth_per_library))

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self._device)


def latents_at_once(diffusion: LatentDiffusion) -> int:
    """Latents that a network samples together on its device.

    Examples
    --------
    >>> latents_at_once(model.module.diffusion) > 0
    True
    """
    denoiser, device = diffusion.averaged, diffusion.mean.device
    if device.type != "cpu":
        return AT_ONCE_ON_ACCELERATORS
    bytes_per_number = 2 if denoiser.computes_in_bfloat16(device) else 4
    return max(1, ACTIVATIONS_AT_ONCE // (denoiser.network.n_hidden * bytes_per_number))


def _stable_seed(*parts: int | str) -> int:
    """Of plain numbers and text: numpy's have another ``repr``, which its print options change."""
    return zlib.crc32(repr(tuple(str(part) if isinstance(part, str) else int(part) for part in parts)).encode())
