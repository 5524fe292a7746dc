"""What is drawn of a simulated screen before any count: a mechanism, cells, library sizes and batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import pandas as pd

from dbdiffusion.simulate._modules import draw_modules
from dbdiffusion.simulate._network import draw_network

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbdiffusion.simulate._modules import Pairs

LOG_LIBRARY_SD = 0.3
LOG_BATCH_SD = 0.15  # of a gene between batches
DRAWN_BY: dict[str, Callable[..., Mechanism]] = {"modules": draw_modules, "network": draw_network}
OWN = {  # options of one mechanism alone
    "modules": ("n_modules", "alignment", "unchanged", "n_synergies", "synergy_size"),
    "network": ("n_regulators", "out_degree", "measured_targets"),
}
SHARED = ("n_genes", "n_perturbations", "n_combinations", "effect_size")


class Mechanism(Protocol):
    """What perturbations do to cells; G measured genes, P perturbations and then their pairs."""

    noise_sd: ClassVar[float]  # of each source of differences between cells

    @property
    def var(self) -> pd.DataFrame:
        """The genes, G rows."""

    @property
    def pairs(self) -> Pairs:
        """Of perturbations."""

    @property
    def n_sources(self) -> int:
        """Sources of differences between cells."""

    @property
    def n_perturbations(self) -> int:
        """P, pairs among them."""

    @property
    def names(self) -> list[str]:
        """Of the perturbations, and then of their pairs."""

    def shares(self, noise: np.ndarray, batch: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Expected share of every gene in each cell's counts (cells, G), of cells with a code each; 0 is control."""


@dataclass(frozen=True)
class Simulation:
    """All that is drawn before the counts; N cells, G genes."""

    mechanism: Mechanism
    cells: pd.DataFrame  # N rows: code (0 is control), batch, escaped
    log_library: np.ndarray  # (N,)
    batch_shift: np.ndarray  # (batches, G)
    escape: float
    dispersion: float


def draw_simulation(rng: np.random.Generator, mechanism: str, **options: Any) -> Simulation:
    """Options are those of :func:`dbdiffusion.simulate.simulate_screen`, all of them but the seed."""
    drawn = DRAWN_BY[mechanism](rng, **{name: options[name] for name in (*SHARED, *OWN[mechanism])})
    cells = _draw_cells(
        rng,
        len(drawn.names),
        options["n_cells_per_perturbation"],
        options["n_control_cells"],
        options["n_batches"],
        options["escape"],
    )
    log_library = np.log(options["library_size"]) + LOG_LIBRARY_SD * rng.standard_normal(len(cells))
    batch_shift = LOG_BATCH_SD * rng.standard_normal((options["n_batches"], options["n_genes"]))
    return Simulation(drawn, cells, log_library, batch_shift, options["escape"], options["dispersion"])


def _draw_cells(
    rng: np.random.Generator, n_perturbations: int, n_cells: int, n_control: int, n_batches: int, escape: float
) -> pd.DataFrame:
    sizes = np.maximum(2, np.round(n_cells * np.exp(0.3 * rng.standard_normal(n_perturbations) - 0.045))).astype(int)
    code = np.repeat(np.arange(n_perturbations + 1), [n_control, *sizes])
    escaped = (code > 0) & (rng.random(len(code)) < escape)
    return pd.DataFrame({"code": code, "batch": rng.integers(0, n_batches, len(code)), "escaped": escaped})
