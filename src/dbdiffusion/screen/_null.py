"""Contrasts of control cells against control cells: what a test says where nothing happened."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import scipy.sparse as sp

from dbdiffusion.screen._effects import ObservedEffects, contrast_within_batches, moments_of_sums


def null_contrasts(values: sp.csr_matrix, batch: np.ndarray, n_cells: int, n_splits: int, seed: int = 0) -> ObservedEffects:
    """Effects of pseudo-perturbations: control cells drawn at random, against the other control cells of their batches.

    Parameters
    ----------
    values
        (N, G) log1p CP10K of control cells.
    batch
        (N,) codes.
    n_cells
        Of a pseudo-perturbation, at least 2 and at most N - 2. Splits share cells with one another, so they are not quite
        independent.
    n_splits
        Pseudo-perturbations.

    Returns
    -------
    ObservedEffects
        One row a split. ``control_df`` is that of the first split.

    Raises
    ------
    ValueError
        If ``n_cells`` or ``n_splits`` is out of range.

    Examples
    --------
    >>> values = sp.csr_matrix(np.random.default_rng(0).random((40, 3)))
    >>> null_contrasts(values, np.zeros(40, dtype=int), n_cells=10, n_splits=4).effect.shape
    (4, 3)
    """
    n = values.shape[0]
    if not 2 <= n_cells <= n - 2:
        msg = f"`n_cells` must lie between 2 and the number of control cells minus 2, {n - 2}, got {n_cells!r}."
        raise ValueError(msg)
    if n_splits < 1:
        msg = f"`n_splits` must be at least 1, got {n_splits!r}."
        raise ValueError(msg)
    rng, n_batches = np.random.default_rng(seed), int(batch.max()) + 1
    chosen = np.stack([rng.permutation(n)[:n_cells] for _ in range(n_splits)])
    groups = (np.arange(n_splits)[:, None] * n_batches + batch[chosen]).ravel()
    member = sp.csr_matrix((np.ones(groups.size), (groups, chosen.ravel())), shape=(n_splits * n_batches, n))
    everyone = sp.csr_matrix((np.ones(n), (batch, np.arange(n))), shape=(n_batches, n))
    values = values.astype(np.float64)
    drawn, total = (_sums(rows, values) for rows in (member, everyone))
    splits = []
    for split in range(n_splits):
        rows = slice(split * n_batches, (split + 1) * n_batches)
        mine = [part[rows] for part in drawn]
        others = [whole - part for whole, part in zip(total, mine, strict=True)]
        moments = moments_of_sums(*(np.concatenate(pair) for pair in zip(mine, others, strict=True)))
        splits.append(contrast_within_batches(moments, n_batches, control=1).subset(np.array([0])))
    names = [f.name for f in fields(ObservedEffects) if f.name != "control_df"]
    stacked = {name: np.concatenate([getattr(split, name) for split in splits]) for name in names}
    return ObservedEffects(**stacked, control_df=splits[0].control_df)


def _sums(member: sp.csr_matrix, values: sp.csr_matrix) -> tuple[np.ndarray, ...]:
    """Cells by group, sums, sums of squares and expressing cells."""
    count = np.asarray(member.sum(axis=1)).ravel()
    return count, *((member @ part).toarray() for part in (values, values.multiply(values), values > 0))
