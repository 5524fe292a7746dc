"""Gene space: what co-expression in the cells says about genes, one vector a gene; of all cells, or without some."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from scipy import optimize
from scipy.linalg import eigh, svd
from scipy.sparse.linalg import LinearOperator, lobpcg
from sknetwork.clustering import Louvain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd


# What chance makes of correlations of genes: the edge of noise, and how sure the size of a correlated error is.


def noise_edge(variance_of_cells: np.ndarray, n_genes: int, degrees_of_freedom: int | None = None) -> float:
    r"""Largest eigenvalue of the sample correlations of uncorrelated genes, in cells of unequal variance.

    With cells alike it is :math:`(1 + \sqrt{c})^2`, :math:`c = G / N`. Shallow cells are noisier, which moves it up: it is
    the least of :math:`-1/m + \mathrm{mean}_i \, w_i / (1 + c w_i m)` over negative m (Silverstein & Choi, J. Multivar.
    Anal. 1995).

    Parameters
    ----------
    variance_of_cells
        w (N,), of the scaled expression, over genes; one on average.
    n_genes
        G, those that vary.
    degrees_of_freedom
        N less what centring took; N if None.

    Examples
    --------
    >>> round(noise_edge(np.ones(4000), n_genes=1000), 6), bool(noise_edge(np.array([0.5, 1.5] * 2000), 1000) > 2.25)
    (2.25, True)
    """
    ratio = n_genes / max(len(variance_of_cells) if degrees_of_freedom is None else degrees_of_freedom, 1)
    variance = variance_of_cells / variance_of_cells.mean()

    def eigenvalue_at(share: float) -> float:
        m = -share / (ratio * variance.max())
        return float(-1 / m + (variance / (1 + ratio * variance * m)).mean())

    return float(optimize.minimize_scalar(eigenvalue_at, bounds=(0, 1), method="bounded", options={"xatol": 1e-9}).fun)


def norm_cv(variance: np.ndarray, vectors: np.ndarray) -> float:
    r"""Coefficient of variation of the squared norm of a normal error over correlated genes.

    With covariance :math:`\Sigma` it is :math:`\sqrt{2 \mathrm{tr} \Sigma^2} / \mathrm{tr} \Sigma`; off its diagonal,
    :math:`\Sigma_{gh}` is read off gene space.

    Parameters
    ----------
    variance
        (G,) of the error.
    vectors
        (G, R) gene space, whose inner products approximate correlations.

    Examples
    --------
    >>> uncorrelated, one_factor = np.zeros((50, 1)), np.ones((50, 1))
    >>> round(norm_cv(np.ones(50), uncorrelated), 3), round(norm_cv(np.ones(50), one_factor), 3)
    (0.2, 1.414)
    """
    weighted = vectors.T @ (variance[:, None] * vectors)
    explained = variance * (vectors**2).sum(axis=1)
    trace_of_square = (weighted**2).sum() + (variance**2).sum() - (explained**2).sum()
    return float(np.sqrt(2 * max(trace_of_square, 0.0)) / max(variance.sum(), 1e-300))


# Clusters of vectors: Louvain on the graph of nearest neighbours.


CHUNK_OF_GENES = 2048  # rows of similarities that are formed at once
DIGITS_OF_COSINES = 10


def louvain_clusters(vectors: np.ndarray, n_neighbors: int = 15, resolution: float = 1.0) -> np.ndarray:
    """Louvain clusters (n,) of the symmetric cosine nearest-neighbour graph of vectors (n, R).

    Nothing is drawn: the same vectors give the same clusters, from any thread.

    Examples
    --------
    >>> labels = louvain_clusters(np.repeat(np.eye(2), 8, axis=0), n_neighbors=7)
    >>> len(set(labels))
    2
    """
    n = len(vectors)
    k = min(n_neighbors, n - 1, max(2, n // 4))
    if n <= k or n < 4:
        return np.zeros(n, dtype=int)
    graph = _nearest(unit(vectors), k)
    graph = graph.maximum(graph.T)
    return Louvain(resolution=resolution, shuffle_nodes=False, random_state=0).fit_predict(graph).astype(int)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one; those of zeros stay.

    Examples
    --------
    >>> unit(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norm, out=np.zeros_like(vectors), where=norm > 0)


def _nearest(units: np.ndarray, k: int) -> sp.csr_matrix:
    """One where a row (n) is among the k of largest cosine to another; of the equally near the first."""
    blocks = []
    for start in range(0, len(units), CHUNK_OF_GENES):
        # the last digits are the processor's: they must not choose among equals
        similarity = (units[start : start + CHUNK_OF_GENES] @ units.T).round(DIGITS_OF_COSINES)
        similarity[np.arange(len(similarity)), start + np.arange(len(similarity))] = -np.inf
        least = -np.partition(-similarity, k - 1, axis=1)[:, k - 1, None]
        near = similarity >= least
        tied = np.flatnonzero(near.sum(axis=1) > k)
        nearer = similarity[tied] > least[tied]
        equal = near[tied] & ~nearer
        near[tied] = nearer | (equal & (nearer.sum(axis=1, keepdims=True) + equal.cumsum(axis=1) <= k))
        blocks.append(sp.csr_matrix(near, dtype=float))
    return sp.vstack(blocks, format="csr")


# Sums of cells and of their products over all groups but some, without subtracting anything.


CHUNK = 4096  # cells that are dense at once
KEPT_BYTES = 2**31  # of products of single classes; above it they are multiplied again where they are needed


@dataclass
class Sums:
    """Numbers (B,), sums (B, G) and products (G, G) of cells, counted by batch.

    Parameters
    ----------
    n_cells
        (B,).
    total
        (B, G).
    product
        (G, G), over all batches.
    """

    n_cells: np.ndarray
    total: np.ndarray
    product: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """(B, G), zero for a batch without cells."""
        return self.total / np.maximum(self.n_cells, 1)[:, None]

    @property
    def variance(self) -> np.ndarray:
        """(G,) within batches."""
        used, n = self.n_cells > 0, max(self.n_cells.sum(), 1.0)
        return np.diagonal(self.product) / n - self.n_cells[used] @ self.mean[used] ** 2 / n

    def covariance(self) -> np.ndarray:
        """(G, G) within batches; a new array."""
        used = self.n_cells > 0  # a batch without cells has no part, not even as rounding
        mean, size, n = self.mean[used], self.n_cells[used], max(self.n_cells.sum(), 1.0)
        return (self.product - (mean.T * size) @ mean) / n

    def plus(self, other: Sums) -> Sums:
        """Sums of both."""
        return Sums(self.n_cells + other.n_cells, self.total + other.total, self.product + other.product)


def sums_without(
    values: sp.csr_matrix, batch: np.ndarray, group: np.ndarray, excluded: Sequence[Sequence[int]]
) -> Iterator[tuple[int, Sums]]:
    """For every set of groups its number, and the sums of all cells that are in none of them.

    Groups that the same sets leave out are a class, which is multiplied once. A sum is begun with what many sets keep and
    goes on where they part, so no cell that a set leaves out ever enters its sum.

    Parameters
    ----------
    values
        (N, G).
    batch, group
        (N,) codes.
    excluded
        Groups by set.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> ones = sp.csr_matrix(np.ones((5, 1)))
    >>> sets = sums_without(ones, np.zeros(5, dtype=int), np.array([0, 0, 1, 1, 2]), [(), (0,), (1, 2)])
    >>> [(i, float(sums.product[0, 0])) for i, sums in sets]
    [(0, 5.0), (1, 3.0), (2, 2.0)]
    """
    classes = _Classes(values, batch, group, excluded)
    nothing = Sums(*(np.zeros(shape) for shape in classes.shapes))
    yield from _parting(classes, list(range(len(excluded))), nothing, list(range(len(classes.left_out_by))))


def _parting(classes: _Classes, sets: list[int], sums: Sums, waiting: list[int]) -> Iterator[tuple[int, Sums]]:
    """Add the classes that all sets keep, then each half of the sets goes on by itself."""
    for one in waiting:
        if not classes.left_out_by[one].intersection(sets):
            sums = sums.plus(classes.sums(one))
    if len(sets) == 1:
        yield sets[0], sums
        return
    waiting = [one for one in waiting if classes.left_out_by[one].intersection(sets)]
    middle = len(sets) // 2
    for half in (sets[:middle], sets[middle:]):
        yield from _parting(classes, half, sums, waiting)


class _Classes:
    """Cells whose groups are left out by the same sets."""

    def __init__(self, values: sp.csr_matrix, batch: np.ndarray, group: np.ndarray, excluded: Sequence[Sequence[int]]) -> None:
        self._values, self._batch = values, batch
        n_batches = int(batch.max(initial=0)) + 1
        self.shapes = ((n_batches,), (n_batches, values.shape[1]), (values.shape[1], values.shape[1]))
        members = [set(map(int, groups)) for groups in excluded]
        signature = {
            int(one): frozenset(i for i, groups in enumerate(members) if int(one) in groups) for one in np.unique(group)
        }
        self.left_out_by = sorted(set(signature.values()), key=sorted)
        number = {one: i for i, one in enumerate(self.left_out_by)}
        of_cell = np.array([number[signature[int(one)]] for one in group], dtype=int)
        self._rows = [np.flatnonzero(of_cell == i) for i in range(len(self.left_out_by))]
        self._keeps = len(self._rows) * values.shape[1] ** 2 * 8 <= KEPT_BYTES
        self._known: dict[int, Sums] = {}

    def sums(self, one: int) -> Sums:
        """Of the cells of a class; kept if there is room."""
        if one in self._known:
            return self._known[one]
        sums = Sums(*(np.zeros(shape) for shape in self.shapes))
        for start in range(0, len(self._rows[one]), CHUNK):
            rows = self._rows[one][start : start + CHUNK]
            dense = self._values[rows].toarray()
            sums.product += dense.T @ dense
            np.add.at(sums.total, self._batch[rows], dense)
            sums.n_cells += np.bincount(self._batch[rows], minlength=self.shapes[0][0])
        if self._keeps and self.left_out_by[one]:
            self._known[one] = sums
        return sums


N_GENE_COMPONENTS = 50
MAX_DENSE_GENES = 5000  # above it a G x G matrix is not formed
FEW_CELLS = 1000  # up to it an N x G matrix is formed instead; the iteration needs more cells than some times the components
TOLERANCE, MAX_ITERATIONS = 1e-3, 12
MIN_VARIANCE = 1e-10  # of log1p CP10K; below it a gene is constant up to rounding


@dataclass(frozen=True)
class GeneSpace:
    """Vectors (G, R) of the measured genes, weighted by how much of the expression each component explains.

    Examples
    --------
    >>> import pandas as pd
    >>> space = GeneSpace(pd.Index(["A", "B"]), np.array([[1.0, 0.0], [0.0, 2.0]]))
    >>> space.permuted(np.array([1, 0])).vectors.tolist()
    [[0.0, 2.0], [1.0, 0.0]]
    """

    names: pd.Index
    vectors: np.ndarray

    @cached_property
    def evidence(self) -> np.ndarray:
        """Vectors (G, R) whose components all weigh the same: what moves most cells does not tell most of a knock-out."""
        scale = np.sqrt((self.vectors**2).mean(axis=0))
        return np.divide(self.vectors, scale, out=np.zeros_like(self.vectors), where=scale > 0)

    @cached_property
    def clusters(self) -> np.ndarray:
        """Louvain cluster (G,) of every gene."""
        return louvain_clusters(self.evidence)

    def permuted(self, rows: np.ndarray) -> GeneSpace:
        """The same with the vectors of other genes (G,): what is known of genes is dealt out anew."""
        permuted = GeneSpace(self.names, self.vectors[rows])
        if "clusters" in self.__dict__:  # they are the same up to names, and dear
            permuted.__dict__["clusters"] = self.clusters[rows]
        return permuted


def gene_vectors(
    values: sp.csr_matrix, batch: np.ndarray | None = None, n_components: int = N_GENE_COMPONENTS, seed: int = 0
) -> np.ndarray:
    """Right singular vectors of the expression, centred within batches and scaled, weighted by their singular values.

    Only components are kept that are stronger than those of uncorrelated genes (:func:`noise_edge`), and one at least.

    Parameters
    ----------
    values
        Log1p CP10K of the training cells (N, G).
    batch
        (N,) codes 0, 1, ... of what cells are centred within, some may be empty; None means one batch.
    n_components
        The most components there may be, never above min(N, G) - 1.
    seed
        Of the starting vectors of the iteration that is used above 5,000 genes and 1,000 cells.

    Returns
    -------
    ndarray
        (G, R) float64; inner products of rows approximate the correlations of genes within batches. Constant genes are zero.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> rng = np.random.default_rng(0)
    >>> one_program = rng.standard_normal((40, 1)) * np.ones(11) + 0.5 * rng.standard_normal((40, 11))
    >>> gene_vectors(sp.csr_matrix(one_program), n_components=3).shape
    (11, 1)
    """
    group = np.zeros(values.shape[0], dtype=int)
    return gene_vectors_without(values, batch, group, [()], n_components, seed)[0]


def gene_vectors_without(
    values: sp.csr_matrix,
    batch: np.ndarray | None,
    group: np.ndarray,
    excluded: Sequence[Sequence[int]],
    n_components: int = N_GENE_COMPONENTS,
    seed: int = 0,
) -> list[np.ndarray]:
    """Gene spaces of the same cells without those of some groups, as :func:`gene_vectors` would make each of them.

    What is left out has no part in a space, not even as rounding: change those cells, and the space is the same bit for bit.
    Up to 5,000 genes the cells are multiplied once, however many spaces are asked for.

    Parameters
    ----------
    values, batch, n_components, seed
        As there.
    group
        (N,) code of every cell's group.
    excluded
        For every space the groups that it does without.

    Returns
    -------
    list of ndarray
        (G, R) each, R may differ.

    Examples
    --------
    >>> values = sp.csr_matrix(np.random.default_rng(0).standard_normal((60, 7)))
    >>> group = np.repeat([0, 1, 2], 20)
    >>> whole, without = gene_vectors_without(values, None, group, [(), (2,)])
    >>> bool(np.allclose(without, gene_vectors(values[:40])))
    True
    """
    batch = np.zeros(values.shape[0], dtype=int) if batch is None else batch
    values = values.astype(np.float64)  # sums of squares cancel in single precision
    if values.shape[1] <= MAX_DENSE_GENES:
        answer: list[np.ndarray] = [np.empty(0)] * len(excluded)
        squares = values.multiply(values).tocsr()
        for index, sums in sums_without(values, batch, group, excluded):
            kept = ~np.isin(group, np.asarray(excluded[index], dtype=int))
            cells = _Cells(values, squares, batch, np.flatnonzero(kept), sums.n_cells, sums.mean, sums.variance)
            answer[index] = _vectors_of(cells, n_components, seed, sums)
        return answer
    spaces = []
    for groups in excluded:
        rows = np.flatnonzero(~np.isin(group, np.asarray(groups, dtype=int)))
        part = values[rows]
        spaces.append(_vectors_of(_Cells.of(part, batch[rows], int(batch.max(initial=0)) + 1), n_components, seed, None))
    return spaces


def _vectors_of(cells: _Cells, n_components: int, seed: int, sums: Sums | None) -> np.ndarray:
    n_cells, n_genes = len(cells.rows), cells.values.shape[1]
    k = max(1, min(n_components, min(n_cells, n_genes) - 1))
    if not cells.varying.any():
        return np.zeros((n_genes, 1))
    if sums is not None:
        right, singular = _by_correlation(sums, cells.inverse_sd, k)
    elif n_cells <= FEW_CELLS:
        right, singular = _by_cells(cells, k)
    else:
        right, singular = _by_iteration(cells, k, seed)
    edge = noise_edge(cells.variance_of_cells(), int(cells.varying.sum()), cells.degrees_of_freedom)
    kept = max(1, int((singular**2 > edge).sum()))
    vectors = np.where(cells.varying[:, None], right[:, :kept] * singular[:kept], 0.0)
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(kept)])
    return vectors * np.where(signs == 0, 1, signs)


class _Cells:
    """Some rows of an expression (N, G), the means (B, G) of their batches and inverse standard deviations (G,) within."""

    def __init__(
        self,
        values: sp.csr_matrix,
        squares: sp.csr_matrix,
        batch: np.ndarray,
        rows: np.ndarray,
        size: np.ndarray,
        mean: np.ndarray,
        variance: np.ndarray,
    ) -> None:
        self.values, self.squares, self.batch, self.rows = values, squares, batch, rows
        self.size, self.mean = size, mean
        self.varying = variance > MIN_VARIANCE
        self.inverse_sd = np.divide(1.0, np.sqrt(np.maximum(variance, 0)), out=np.zeros(len(variance)), where=self.varying)

    @classmethod
    def of(cls, values: sp.csr_matrix, batch: np.ndarray, n_batches: int) -> _Cells:
        """All rows of an expression, where no G x G matrix can be formed."""
        n_cells = values.shape[0]
        size = np.bincount(batch, minlength=n_batches).astype(float)
        member = sp.csr_matrix((np.ones(n_cells), (batch, np.arange(n_cells))), shape=(n_batches, n_cells))
        mean = (member @ values).toarray() / np.maximum(size, 1)[:, None]
        squares = values.multiply(values).tocsr()
        variance = np.asarray(squares.sum(axis=0)).ravel() / max(n_cells, 1) - size @ mean**2 / max(n_cells, 1)
        return cls(values, squares, batch, np.arange(n_cells), size, mean, variance)

    @property
    def degrees_of_freedom(self) -> int:
        """Cells less the batches that have any."""
        return len(self.rows) - int((self.size > 0).sum())

    def variance_of_cells(self) -> np.ndarray:
        """Mean squares (rows,) of the centred, scaled expression over varying genes."""
        weight = self.inverse_sd**2 / self.varying.sum()
        squares = self.squares @ weight + (self.mean**2 @ weight)[self.batch]
        crossed = self.values @ (self.mean * weight).T
        return (squares - 2 * crossed[np.arange(len(squares)), self.batch])[self.rows]


def _scaled(values: sp.csr_matrix, mean: np.ndarray, inverse_sd: np.ndarray) -> np.ndarray:
    """Cells (n, G) less the means (n, G) of their batches, over standard deviations (G,); dense, in the precision given."""
    dense = values.toarray()
    dense -= mean
    dense *= inverse_sd
    return dense


def _by_correlation(sums: Sums, inverse_sd: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    n_genes = len(inverse_sd)
    correlation = sums.covariance()
    correlation *= inverse_sd
    correlation *= inverse_sd[:, None]
    eigenvalues, right = eigh(correlation, subset_by_index=(n_genes - k, n_genes - 1), overwrite_a=True, check_finite=False)
    return right[:, ::-1], np.sqrt(np.maximum(eigenvalues[::-1], 0))


def _by_cells(cells: _Cells, k: int) -> tuple[np.ndarray, np.ndarray]:
    scaled = _scaled(cells.values, cells.mean[cells.batch], cells.inverse_sd)
    _, singular, right = svd(scaled, full_matrices=False, overwrite_a=True)
    return right[:k].T, singular[:k] / np.sqrt(len(scaled))


def _by_iteration(cells: _Cells, k: int, seed: int, chunk: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """Of blocks of vectors: single precision is enough where cells are centred before they are multiplied."""
    n_cells, n_genes = cells.values.shape
    values, mean, inverse_sd = (array.astype(np.float32) for array in (cells.values, cells.mean, cells.inverse_sd))

    def correlation_times(vectors: np.ndarray) -> np.ndarray:
        vectors = np.asarray(vectors, dtype=np.float32).reshape(n_genes, -1)
        product = np.zeros_like(vectors)
        for start in range(0, n_cells, chunk):
            rows = slice(start, start + chunk)
            scaled = _scaled(values[rows], mean[cells.batch[rows]], inverse_sd)
            product += scaled.T @ (scaled @ vectors)
        return product / n_cells

    operator = LinearOperator((n_genes, n_genes), matvec=correlation_times, matmat=correlation_times, dtype=np.float32)
    initial = np.random.default_rng(seed).standard_normal((n_genes, k)).astype(np.float32)
    with warnings.catch_warnings():  # components below the edge of noise need not converge
        warnings.filterwarnings("ignore", "Exited", UserWarning)
        eigenvalues, right = lobpcg(operator, initial, largest=True, tol=TOLERANCE, maxiter=MAX_ITERATIONS)
    order = np.argsort(-eigenvalues)
    return right[:, order].astype(np.float64), np.sqrt(np.maximum(eigenvalues[order].astype(np.float64), 0))
