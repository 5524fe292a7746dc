"""Real cells, made-up effects: counts of a real screen are thinned or topped up, so that the truth is known.

Co-expression, depth and noise are those of real cells. The cells of a screen are dealt out anew to control and perturbations,
whatever was done to them, so before any change they do not differ but by chance. A perturbation multiplies the expected counts
of genes: counts are thinned (binomial), or Poisson counts are added. Its effect follows its gene's place among the principal
components of co-expression, a random linear map away (alignment 1), or nothing that co-expression tells (0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse

from dbdiffusion.screen import log1p_cp10k

if TYPE_CHECKING:
    from pathlib import Path

N_REPEATS = 3  # of the changed cells that tell the truth


@dataclass(frozen=True)
class Thinned:
    """How a real screen is made into one whose truth is known."""

    n_perturbations: int
    n_cells: int  # of a perturbation
    effect: float  # root mean square of log changes over genes, of a perturbation of median strength
    rank: int  # components of co-expression that effects follow
    n_control: int = 800
    share: float = 0.3  # of the genes that a component changes


SETTINGS = {
    "norman": Thinned(n_perturbations=45, n_cells=60, effect=2.0, rank=5, n_control=600),
    "renge": Thinned(n_perturbations=60, n_cells=100, effect=0.75, rank=4),
    "sergio": Thinned(n_perturbations=60, n_cells=60, effect=0.75, rank=5),
}


def thinned(file: Path, how: Thinned, alignment: float, seed: int) -> tuple[ad.AnnData, pd.DataFrame]:
    """Cells, with ``total_counts`` of all genes where the file has it, and true effects (perturbations x genes)."""
    rng = np.random.default_rng([seed, 7])
    real = ad.read_h5ad(file)
    counts = np.asarray(real.X.todense() if sparse.issparse(real.X) else real.X).astype(int)
    total = np.asarray(real.obs.get("total_counts", counts.sum(axis=1)), dtype=float)
    target = rng.permutation(np.flatnonzero(counts.mean(axis=0) > 0.02))[: how.n_perturbations]
    expression = _expression(counts, total)
    fold = np.exp(np.clip(_log_changes(expression, target, how, alignment, rng), -3, 1.5))
    fold[np.arange(len(target)), target] = np.exp(-2)
    names = real.var_names[target].astype(str)
    dealt = rng.permutation(len(counts))
    ends = how.n_control + how.n_cells * np.arange(len(target) + 1)
    if ends[-1] > len(dealt) or len(target) < how.n_perturbations:
        msg = f"{file.name} has too few cells or expressed genes for {how}."
        raise ValueError(msg)
    cells = [
        (dealt[: ends[0]], np.ones(counts.shape[1])),
        *((dealt[a:b], f) for a, b, f in zip(ends, ends[1:], fold, strict=False)),
    ]
    made = [_changed(counts[rows], change, rng) for rows, change in cells]
    totals = [total[rows] + new.sum(axis=1) - counts[rows].sum(axis=1) for (rows, _), new in zip(cells, made, strict=True)]
    label = np.repeat(["control", *names], [len(rows) for rows, _ in cells])
    obs = pd.DataFrame({"perturbation": pd.Categorical(label), "total_counts": np.maximum(np.concatenate(totals), 1.0)})
    matrix = sparse.csr_matrix(np.vstack(made).astype(np.float32))
    adata = ad.AnnData(
        matrix, obs=obs.set_index("cell" + obs.index.astype(str)), var=pd.DataFrame(index=real.var_names.astype(str))
    )
    changed = [_mean_changed(counts, total, change, np.random.default_rng([seed, 8, i])) for i, change in enumerate(fold)]
    return adata, pd.DataFrame(changed - expression.mean(axis=0), index=names, columns=adata.var_names)


def _log_changes(
    expression: np.ndarray, target: np.ndarray, how: Thinned, alignment: float, rng: np.random.Generator
) -> np.ndarray:
    scaled = (expression - expression.mean(axis=0)) / np.maximum(expression.std(axis=0), 1e-9)
    _, size, vectors = np.linalg.svd(scaled, full_matrices=False)
    place = (size[: how.rank, None] * vectors[: how.rank]).T[target]
    place /= np.linalg.norm(place, axis=1, keepdims=True)
    shape = how.rank, expression.shape[1]
    known, unknown = (rng.standard_normal(shape) * (rng.uniform(size=shape) < how.share) for _ in range(2))
    parts = _of_one_size(place @ known), _of_one_size(rng.standard_normal(place.shape) @ unknown)
    direction = _of_one_size(np.sqrt(alignment) * parts[0] + np.sqrt(1 - alignment) * parts[1])
    return direction * how.effect * np.exp(0.5 * rng.standard_normal(len(target)))[:, None]


def _of_one_size(rows: np.ndarray) -> np.ndarray:
    return rows / np.sqrt((rows**2).mean(axis=1, keepdims=True))


def _changed(counts: np.ndarray, fold: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.binomial(counts, np.minimum(fold, 1)) + rng.poisson(counts * np.maximum(fold - 1, 0))


def _mean_changed(counts: np.ndarray, total: np.ndarray, fold: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mean expression (G,) over all cells of the file, changed some times over."""
    mean = np.zeros(counts.shape[1])
    for _ in range(N_REPEATS):
        new = _changed(counts, fold, rng)
        mean += _expression(new, np.maximum(total + (new - counts).sum(axis=1), 1)).mean(axis=0) / N_REPEATS
    return mean


def _expression(counts: np.ndarray, total: np.ndarray) -> np.ndarray:
    return log1p_cp10k(counts, total).toarray().astype(float)
