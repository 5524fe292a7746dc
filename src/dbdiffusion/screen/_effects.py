"""Observed effects: mean log1p CP10K of a perturbation minus that of control, contrasted inside batches.

Scale everywhere: mean over cells of log(1 + counts per 10,000), natural log.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import scipy.sparse as sp

from dbdiffusion.screen._names import NameRule, meant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


TARGET_SUM = 1e4
RELATIVE_SIZE_FACTOR = 100.0  # size factors with a median below it are relative, not total counts
MIN_EXPRESSING = (
    5.0  # expected expressing cells that a normal approximation needs, as the expected counts of a chi-squared test do
)
PRIOR_DF = 10.0  # of the variance that all cells share; with it p-values hold from 10 cells on (benchmarks/null_calibration.py)


@dataclass(frozen=True)
class GroupMoments:
    """Cells of each group, and mean and variance over them of every gene.

    Parameters
    ----------
    n_cells
        (groups,).
    mean
        (groups, G), log1p CP10K; 0 for an empty group.
    sum_of_squares
        (groups, G), squared deviations from the group's mean, summed over its cells.
    n_expressing
        (groups, G), cells with a count above zero.

    Examples
    --------
    >>> moments = GroupMoments(np.array([2, 3]), np.zeros((2, 4)), np.ones((2, 4)), np.zeros((2, 4)))
    >>> moments.subset(np.array([1])).n_cells.tolist()
    [3]
    """

    n_cells: np.ndarray
    mean: np.ndarray
    sum_of_squares: np.ndarray
    n_expressing: np.ndarray

    def subset(self, groups: np.ndarray) -> GroupMoments:
        """The same for some of the groups."""
        return GroupMoments(*(getattr(self, f.name)[groups] for f in fields(self)))


@dataclass(frozen=True)
class ObservedEffects:
    """Effects of P measured perturbations on G genes and what is needed to judge them.

    Parameters
    ----------
    effect
        (P, G).
    variance
        (P, G) sampling variance from the perturbation's own cells, s²/n, s² moderated.
    control_variance
        (P, G) sampling variance from the control cells, which all perturbations share.
    df, control_df
        (P, G) and scalar: degrees of freedom of the two variances; 0 for a perturbation with a single cell.
    mean_control
        (P, G) mean of the control cells, weighted over batches as the effect is.
    n_cells
        (P,) cells that entered the contrast.
    n_expressing
        (P, G) cells of the perturbation that can be expected to express the gene where it changes nothing: the mean of how many
        do and of how many would at control's rate. NaN in files of before.

    Examples
    --------
    >>> observed = model.predictor().screen.observed
    >>> observed.effect.shape == (len(model.perturbation_names), adata.n_vars)
    True
    >>> observed.subset(np.array([0])).n_cells.shape
    (1,)
    """

    effect: np.ndarray
    variance: np.ndarray
    control_variance: np.ndarray
    df: np.ndarray
    control_df: float
    mean_control: np.ndarray
    n_cells: np.ndarray
    n_expressing: np.ndarray = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.n_expressing is None:  # not known
            object.__setattr__(self, "n_expressing", np.full(self.effect.shape, np.nan))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint: tables of genes in single precision, which is far below their noise."""
        return {name: values.astype(np.float32) if np.ndim(values) == 2 else values for name, values in vars(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Inverse of :meth:`to_dict`; sums over them are made in double precision."""
        return cls(**{name: value.astype(float) if np.ndim(value) == 2 else value for name, value in values.items()})

    @property
    def can_be_tested(self) -> np.ndarray:
        """(P, G) whether enough cells can be expected to express a gene for a test; where that is not known it is hoped."""
        return ~(np.asarray(self.n_expressing) < MIN_EXPRESSING)

    @property
    def has_variance(self) -> np.ndarray:
        """(P,) whether the variance of a perturbation's cells is known; that of a single cell is not."""
        df = self.df if self.df.ndim > 1 else self.df[:, None]  # (P,) in screens of early versions
        return np.asarray((df > 0).all(axis=1))

    def mean_noise(self) -> np.ndarray:
        """(G,) mean sampling variance of the effects of perturbations whose variance is known; zero if none is."""
        known = self.has_variance
        return (self.variance + self.control_variance)[known].sum(axis=0) / max(int(known.sum()), 1)

    def subset(self, rows: np.ndarray) -> ObservedEffects:
        """The same for some of the perturbations (indices or mask)."""
        per_perturbation = [f.name for f in fields(self) if f.name != "control_df"]
        return ObservedEffects(**{name: getattr(self, name)[rows] for name in per_perturbation}, control_df=self.control_df)

    def joined(self, other: ObservedEffects) -> ObservedEffects:
        """These perturbations, then those of another screen; the smaller of the two controls' degrees of freedom."""
        names = [f.name for f in fields(self) if f.name != "control_df"]
        arrays = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names}
        return ObservedEffects(**arrays, control_df=min(self.control_df, other.control_df))


def log1p_cp10k(counts: sp.spmatrix | np.ndarray, library: np.ndarray) -> sp.csr_matrix:
    """Log(1 + counts per 10,000) as CSR; cells without counts stay zero.

    Parameters
    ----------
    counts
        (N, G), sparse or dense.
    library
        (N,) totals to divide by.

    Examples
    --------
    >>> log1p_cp10k(np.array([[1.0, 0.0]]), np.array([10_000.0])).toarray().round(3)
    array([[0.693, 0.   ]], dtype=float32)
    """
    scaled = sp.csr_matrix(counts, dtype=np.float32, copy=True)
    scaled.sum_duplicates()
    factor = np.divide(TARGET_SUM, library, out=np.zeros(len(library)), where=library > 0)
    scaled.data *= np.repeat(factor, np.diff(scaled.indptr)).astype(np.float32)
    np.log1p(scaled.data, out=scaled.data)
    return scaled


def counts_fault(values: np.ndarray) -> str | None:
    """What keeps values from being raw counts, in a word or two; None if nothing does.

    Examples
    --------
    >>> counts_fault(np.array([0.0, 3.0])), counts_fault(np.array([0.0, 0.7])), counts_fault(np.array([np.nan]))
    (None, 'fractional', 'NaN or infinite')
    """
    if not np.issubdtype(values.dtype, np.number):
        return f"of type {values.dtype}"
    if np.issubdtype(values.dtype, np.complexfloating):
        return "complex"
    if not np.isfinite(values).all():
        return "NaN or infinite"
    if (values < 0).any():
        return "negative"
    if not np.issubdtype(values.dtype, np.integer) and (values != np.floor(values)).any():
        return "fractional"
    return None


def depth_per_library(factors: np.ndarray, totals: np.ndarray) -> float:
    """Total counts that a size factor of 1 stands for: 1 unless the factors (N,) are relative, whose median is below 100.

    Examples
    --------
    >>> depth_per_library(np.array([0.5, 1.5]), np.array([2000.0, 4000.0]))
    3000.0
    >>> depth_per_library(np.array([5000.0, 9000.0]), np.array([2000.0, 4000.0]))
    1.0
    """
    is_relative = np.median(factors) < RELATIVE_SIZE_FACTOR
    return float(totals.mean() / factors.mean()) if is_relative else 1.0


def grouped_moments(chunks: Iterable[tuple[sp.csr_matrix, np.ndarray]], n_groups: int, n_genes: int) -> GroupMoments:
    """Mean and variance by group in one pass over chunks of cells.

    Parameters
    ----------
    chunks
        Pairs of log1p CP10K (cells, G) as CSR and group codes (cells,); code -1 is left out.
    n_groups, n_genes
        Shape of the answer.

    Examples
    --------
    >>> x = sp.csr_matrix(np.array([[1.0], [3.0], [5.0]]))
    >>> moments = grouped_moments([(x, np.array([0, 0, 1]))], n_groups=2, n_genes=1)
    >>> moments.mean.ravel(), moments.sum_of_squares.ravel()
    (array([2., 5.]), array([2., 0.]))
    """
    n_cells = np.zeros(n_groups)
    total = np.zeros((n_groups, n_genes))
    squares = np.zeros((n_groups, n_genes))
    n_expressing = np.zeros((n_groups, n_genes))
    for values, codes in chunks:
        kept = np.flatnonzero(codes >= 0)
        present, group = np.unique(codes[kept], return_inverse=True)
        member = sp.csr_matrix((np.ones(len(kept)), (group, kept)), shape=(len(present), len(codes)))
        values = values.astype(np.float64)
        n_cells[present] += np.asarray(member.sum(axis=1)).ravel()
        total[present] += (member @ values).toarray()
        squares[present] += (member @ values.multiply(values)).toarray()
        n_expressing[present] += (member @ (values > 0)).toarray()
    return moments_of_sums(n_cells, total, squares, n_expressing)


def moments_of_sums(n_cells: np.ndarray, total: np.ndarray, squares: np.ndarray, n_expressing: np.ndarray) -> GroupMoments:
    """Moments of groups from their numbers of cells, sums, sums of squares and numbers of expressing cells."""
    mean = total / np.maximum(n_cells, 1)[:, None]
    return GroupMoments(n_cells, mean, np.maximum(squares - n_cells[:, None] * mean**2, 0.0), n_expressing)


def contrast_within_batches(moments: GroupMoments, n_batches: int, control: int) -> ObservedEffects:
    r"""Effects of every group against control, contrasted inside batches.

    The contrast of batch b is weighted by :math:`n_{ib} n_{0b} / (n_{ib} + n_{0b})`, the inverse of its sampling
    variance up to the common within-variance, so that the batch composition of a perturbation is no effect. The
    within-variances are pooled over batches and moderated, see :func:`moderated_variance`.

    Parameters
    ----------
    moments
        Of the groups ``perturbation * n_batches + batch``.
    n_batches
        Batches.
    control
        Code of control.

    Returns
    -------
    ObservedEffects
        One row per perturbation, control included (its own effect is 0). A perturbation that shares no batch with
        control has ``n_cells`` 0 and NaN effects.

    Examples
    --------
    Three cells of control and three of a perturbation, one batch, one gene that rises by 1:

    >>> moments = GroupMoments(np.array([3, 3]), np.array([[1.0], [2.0]]), np.full((2, 1), 0.2), np.full((2, 1), 3))
    >>> contrast_within_batches(moments, n_batches=1, control=0).effect.tolist()
    [[0.0], [1.0]]
    """
    n = moments.n_cells.reshape(-1, n_batches)
    mean = moments.mean.reshape(*n.shape, -1)
    squares = moments.sum_of_squares.reshape(*n.shape, -1)
    n_control = n[control]
    weight = contrast_weights(n, n_control)
    with np.errstate(invalid="ignore", divide="ignore"):
        used = weight > 0
        within, df = moderated_variance(n, mean, squares)
        inverse_n = np.where(used, weight**2 / n, 0).sum(axis=1)
        inverse_n_control = np.where(used, weight**2 / n_control, 0).sum(axis=1)
    mean_control = np.einsum("pb,bg->pg", weight, mean[control])
    share = moments.n_expressing.reshape(mean.shape) / np.maximum(n, 1)[:, :, None]
    of_both = np.einsum("pb,pbg->pg", weight, share) + np.einsum("pb,bg->pg", weight, share[control])
    n_used = np.where(used, n, 0).sum(axis=1)
    return ObservedEffects(
        effect=np.einsum("pb,pbg->pg", weight, mean) - mean_control,
        variance=within * inverse_n[:, None],
        control_variance=within[control] * inverse_n_control[:, None],
        df=df,
        control_df=float(np.maximum(n_control - 1, 0).sum()),
        mean_control=mean_control,
        n_cells=n_used.astype(int),
        n_expressing=n_used[:, None] * of_both / 2,
    )


def contrast_weights(n_cells: np.ndarray, n_control: np.ndarray) -> np.ndarray:
    """Weights (P, batches) of the batches in contrasts of perturbations; NaN for those that share none with control.

    Parameters
    ----------
    n_cells
        (P, batches) of the perturbations.
    n_control
        (batches,).

    Examples
    --------
    >>> contrast_weights(np.array([[10, 0], [10, 10]]), np.array([10, 30])).round(2).tolist()
    [[1.0, 0.0], [0.4, 0.6]]
    """
    weight = n_cells * n_control / np.maximum(n_cells + n_control, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return weight / weight.sum(axis=1, keepdims=True)


def moderated_variance(n_cells: np.ndarray, mean: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Within-variances of perturbations, drawn towards the variance that all cells share.

    A gene that few cells express has a variance that rests on those few, and none at all where by chance no cell does:
    Welch's test then calls nothing something. So the degrees of freedom of a variance count the cells only as far as they
    express the gene, :math:`d = (n - 1) (\sum x)^2 / (N \sum x^2)`, and the common variance of the gene enters with ten,
    :math:`\tilde s^2 = (d s^2 + 10 s_{all}^2) / (d + 10)`.

    Parameters
    ----------
    n_cells
        (P, batches).
    mean, squares
        (P, batches, G) means and summed squared deviations.

    Returns
    -------
    tuple
        Variances and degrees of freedom, (P, G); NaN and 0 with a single cell.

    Examples
    --------
    >>> n, mean = np.array([[100.0], [20.0]]), np.ones((2, 1, 1))
    >>> variance, df = moderated_variance(n, mean, np.array([[[99.0]], [[0.0]]]))
    >>> bool(0 < variance[1, 0] < variance[0, 0]), df.round(1).ravel().tolist()
    (True, [64.2, 20.4])
    """
    own_df = np.maximum(n_cells - 1, 0).sum(axis=1)[:, None]
    pooled = squares.sum(axis=(0, 1)) / max(own_df.sum(), 1.0)
    total = np.einsum("pb,pbg->g", n_cells, mean)
    second_moment = squares.sum(axis=(0, 1)) + np.einsum("pb,pbg->g", n_cells, mean**2)
    share = np.divide(total**2, n_cells.sum() * second_moment, out=np.zeros_like(total), where=second_moment > 0)
    df = own_df * share
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = (df * squares.sum(axis=1) / own_df + PRIOR_DF * pooled) / (df + PRIOR_DF)
    return variance, np.where(own_df > 0, df + PRIOR_DF, 0.0)


# Control cells in two halves, so that a prediction and what it is compared with share no error of the control mean.


N_SPLITS = 6  # with one, all comparisons share one chance (a null screen with one noise factor: lists at 10 % wrong in .225)


@dataclass(frozen=True)
class ControlHalves:
    """How far the means of random halves of the control cells lie from the control mean, batch by batch.

    Parameters
    ----------
    first, second
        (splits, batches, G) mean of all control cells of the batch minus that of one half, and of the other half.
    weight
        (P, batches) of the batches in the contrast of every perturbation.

    Examples
    --------
    One split of one batch; the halves lie on either side of the control mean:

    >>> half = np.full((1, 1, 2), 0.1)
    >>> halves = ControlHalves(half, -half, np.ones((3, 1)))
    >>> [float(of_mean[0]) for of_mean, of_each in halves.shifts()]
    [0.1, -0.1]
    """

    first: np.ndarray
    second: np.ndarray
    weight: np.ndarray

    def subset(self, rows: np.ndarray) -> Self:
        """The same for some of the perturbations."""
        return type(self)(self.first, self.second, self.weight[rows])

    def joined(self, other: ControlHalves) -> Self:
        """These perturbations, then those of another screen, whose control cells are others."""
        halves = {name: np.concatenate([getattr(self, name), getattr(other, name)], axis=1) for name in ("first", "second")}
        n, n_batches = self.weight.shape
        weight = np.zeros((n + len(other.weight), n_batches + other.weight.shape[1]))
        weight[:n, :n_batches], weight[n:, n_batches:] = self.weight, other.weight
        return type(self)(**halves, weight=weight)

    def shifts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For every split, both ways: what a mean of these perturbations' effects (G,) and each of them (P, G) change by.

        The former is contrasted with one half of the control cells, the latter with the other.
        """
        mean = self.weight.mean(axis=0)
        for one, other in ((self.first, self.second), (self.second, self.first)):
            for mine, others in zip(one, other, strict=True):
                yield mean @ mine, self.weight @ others

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def control_halves(values: sp.csr_matrix, batch: np.ndarray, weight: np.ndarray, seed: int = 0) -> ControlHalves | None:
    """Halve control cells at random inside every batch, six times.

    Parameters
    ----------
    values
        (N, G) log1p CP10K of control cells.
    batch
        (N,) codes, below the number of columns of ``weight``.
    weight
        (P, batches) of the batches in every contrast.
    seed
        Of the splits.

    Returns
    -------
    ControlHalves or None
        None where a batch that counts has fewer than two control cells: they cannot be halved.

    Examples
    --------
    >>> values = sp.csr_matrix(np.arange(8.0).reshape(4, 2))
    >>> halves = control_halves(values, np.zeros(4, dtype=int), np.ones((3, 1)))
    >>> halves.first.shape, bool(np.allclose(halves.first, -halves.second))
    ((6, 1, 2), True)
    """
    n_batches = weight.shape[1]
    size = np.bincount(batch, minlength=n_batches)
    if (size[(weight > 0).any(axis=0)] < 2).any():
        return None
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(batch == one) for one in range(n_batches)]
    halves: list[list[np.ndarray]] = [[], []]
    whole = _means(values, batch, n_batches)
    for _ in range(N_SPLITS):
        side = np.zeros(len(batch), dtype=int)
        for inside in rows:
            side[rng.permutation(inside)[: len(inside) // 2]] = 1
        for kept, half in zip((0, 1), halves, strict=True):
            chosen = side == kept
            half.append(whole - _means(values[chosen], batch[chosen], n_batches))
    first, second = (np.stack(half).astype(np.float32).astype(float) for half in halves)
    return ControlHalves(first, second, weight)


def _means(values: sp.csr_matrix, batch: np.ndarray, n_batches: int) -> np.ndarray:
    """(batches, G), zero for a batch without cells."""
    member = sp.csr_matrix((np.ones(len(batch)), (batch, np.arange(len(batch)))), shape=(n_batches, len(batch)))
    size = np.bincount(batch, minlength=n_batches)
    return (member @ values).toarray() / np.maximum(size, 1)[:, None]


# Contrasts of control cells against control cells: what a test says where nothing happened.


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


# Tables of effects that a user brings, perturbations x genes: checked, and aligned by name.


def effect_table(given: Any, where: str, rule: NameRule | None = None, genes: Sequence[str] | None = None) -> pd.DataFrame:
    """A user's effects as a float frame with one row a perturbation, genes in a given order.

    Parameters
    ----------
    given
        DataFrame (index = perturbations, columns = genes), or an AnnData of perturbations x genes, whose X is read.
    where
        It was given, for the messages.
    rule
        How names are read: parts in any order, control's padding left out. None takes them as they are.
    genes
        That must be there; others are left out. None keeps those of the table.

    Raises
    ------
    TypeError
        If it is neither.
    KeyError
        If a gene is missing.
    ValueError
        If it is empty, has a name twice or names that mean the same, or values that are no finite numbers.

    Examples
    --------
    >>> given = pd.DataFrame([[1, 2], [3, 4]], index=["A", "ctrl+B"], columns=["g", "h"])
    >>> effect_table(given, "`effects`", NameRule(), ["h"])
         h
    A  2.0
    B  4.0
    """
    table = given.to_df() if hasattr(given, "to_df") and hasattr(given, "obs_names") else given
    if not isinstance(table, pd.DataFrame):
        msg = f"{where} must be a DataFrame or an AnnData of perturbations x genes, got {type(given).__name__}."
        raise TypeError(msg)
    if not table.shape[0] or not table.shape[1]:
        msg = f"{where} is empty, shape {table.shape}: it needs a row a perturbation and a column a gene."
        raise ValueError(msg)
    rule = rule or NameRule(separator="")
    index, columns = [str(name) for name in table.index], pd.Index([str(gene) for gene in table.columns])
    _check_unique([rule.key(name) for name in index], index, f"{where} has", "rows")
    _check_unique(list(columns), list(columns), f"{where} has", "columns")
    if genes is not None:
        found = columns.get_indexer(pd.Index(genes))
        absent = [str(gene) for gene, column in zip(genes, found, strict=True) if column < 0]
        if absent:
            msg = (
                f"{where} lacks {len(absent)} of the {len(genes)} genes, {absent[:5]}.{meant(absent[0], columns)} Its columns "
                "must be named like the genes of the screen; predict all of them, or train on those that it has."
            )
            raise KeyError(msg)
        table, columns = table.iloc[:, found], columns[found]
    return pd.DataFrame(_numbers(table, where), index=[rule.clean(name) for name in index], columns=columns)


def _check_unique(keys: list[Any], names: list[str], has: str, what: str) -> None:
    seen: dict[Any, str] = {}
    for key, name in zip(keys, names, strict=True):
        if key in seen:
            msg = f"{has} {what} that mean the same, {seen[key]!r} and {name!r}; keep one of them."
            raise ValueError(msg)
        seen[key] = name


def _numbers(table: pd.DataFrame, where: str) -> np.ndarray:
    kinds = {kind.kind for kind in table.dtypes if isinstance(kind, np.dtype)}
    if "b" in kinds or "c" in kinds:
        msg = f"{where} must hold numbers, got {sorted({str(kind) for kind in table.dtypes})}."
        raise ValueError(msg)
    values = table.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    unfit = np.argwhere(~np.isfinite(values))
    if len(unfit):
        row, column = unfit[0]
        first = table.iloc[row, column]
        first = float(first) if isinstance(first, float) else first  # numpy's have another `repr`
        msg = (
            f"{where} must hold finite numbers, but {len(unfit)} are none, the first {first!r} of "
            f"{table.index[row]!r} in gene {table.columns[column]!r}. Fill them, or leave the row out."
        )
        raise ValueError(msg)
    return values
