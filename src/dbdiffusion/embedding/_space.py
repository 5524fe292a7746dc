"""Where perturbations lie: measured ones by their effects, unseen ones by a strategy, combinations by adding parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion.embedding._strategies import (
    STRATEGIES,
    UNCLUSTERED,
    EffectSpace,
    Evidence,
    OwnVectors,
    fit_effect_space,
    locate_cluster,
    not_placed,
    too_few,
)
from dbdiffusion.screen import Fold, GeneSpace, LeftOut, ObservedEffects, Screen, SpaceWithout, split_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


# The measured perturbations most like a target, by what is known of both without the target's cells.


def nearest_measured(space: PerturbationSpace, names: Sequence[str], n: int = 3) -> list[list[tuple[str, float]]]:
    """Up to n measured perturbations for every name, and the cosine of their vectors with its own, most similar first.

    Parameters
    ----------
    space
        Holds the measured ones. A perturbation is not its own neighbour.
    names
        To place. What has no vector has no neighbours.

    Examples
    --------
    >>> nearest = nearest_measured(model.predictor().space, unseen, n=2)
    >>> [len(of_one) for of_one in nearest], bool(nearest[0][0][1] >= nearest[0][1][1])
    ([2, 2], True)
    """
    answer = []
    for name, cosines in zip(names, space.similarity(names), strict=True):
        known = [row for row in np.argsort(-cosines, kind="stable") if np.isfinite(cosines[row]) and row != space.row(name)]
        answer.append([(space.names[row], float(cosines[row])) for row in known[:n]])
    return answer


def nearest_similarity(space: PerturbationSpace, names: Sequence[str]) -> np.ndarray:
    """Cosine (n,) with the nearest of the measured perturbations; NaN for what has no vector.

    Examples
    --------
    >>> space = model.predictor().space
    >>> float(nearest_similarity(space, unseen)[0]) == nearest_measured(space, unseen)[0][0][1]
    True
    """
    return np.array([near[0][1] if near else np.nan for near in nearest_measured(space, names, n=1)])


# How much the measured neighbours of a perturbation agree: known without its cells, it tells how far to trust its place.


N_NEIGHBOURS = 5.0  # effective; with eight or a quarter of the measured ones gene lists were shorter
N_BISECTIONS = 50
LEAST = 0.01  # so that no score becomes zero


def neighbour_coherence(space: PerturbationSpace, names: Sequence[str]) -> np.ndarray:
    """Mean cosine (n,) between the effects of a perturbation's measured neighbours, from .01 to 1.

    Effects are taken less the mean of the measured ones. Neighbours weigh as a Gaussian kernel on the angle between vectors
    says, five of them effectively; pairs of them weigh as the product. What has no vector has no neighbours: it gets the
    least.

    Parameters
    ----------
    space
        Holds the measured ones. A perturbation that it holds is a neighbour of itself.
    names
        To place.

    Examples
    --------
    >>> coherence = neighbour_coherence(model.predictor().space, unseen)
    >>> bool(((coherence >= 0.01) & (coherence <= 1)).all())
    True
    """
    if not len(names) or len(space.names) < 2:
        return np.full(len(names), LEAST)
    weights = kernel_weights(space.similarity(names), min(N_NEIGHBOURS, len(space.names)))
    effect = space.effects.to_effect(space.embedding)
    deviation = effect - effect.mean(axis=0)
    unit = deviation / np.maximum(np.linalg.norm(deviation, axis=1, keepdims=True), 1e-300)
    own = (weights**2).sum(axis=1)
    together = ((weights @ unit) ** 2).sum(axis=1)
    return np.clip((together - own) / np.maximum(1 - own, 1e-12), LEAST, 1.0)


def kernel_weights(similarity: np.ndarray, n_effective: float) -> np.ndarray:
    """Weights exp(k * cosine) with k such that every row's effective number 1 / sum(w²) is as asked, or all it has.

    Parameters
    ----------
    similarity
        (T, K) cosines; NaN get no weight, a row of NaN is a row of zeros.
    n_effective
        Between 1 and K.

    Examples
    --------
    >>> weights = kernel_weights(np.array([[0.9, 0.5, 0.1, -0.3, np.nan]]), n_effective=2.0)
    >>> round(float(1 / (weights**2).sum()), 3)
    2.0
    """
    unknown = np.isnan(similarity)
    nearest = np.where(unknown, -1, similarity).max(axis=1, keepdims=True, initial=-1)
    distance = np.where(unknown, np.inf, nearest - similarity)
    low, high = np.zeros((len(similarity), 1)), np.full((len(similarity), 1), 1e4)
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        weights = _normalised(_kernel(distance, middle))
        too_many = 1 / np.maximum((weights**2).sum(axis=1, keepdims=True), 1e-300) > n_effective
        low, high = np.where(too_many, middle, low), np.where(too_many, high, middle)
    return _normalised(_kernel(distance, high))


def _kernel(distance: np.ndarray, sharpness: np.ndarray) -> np.ndarray:
    return np.where(np.isinf(distance), 0.0, np.exp(-sharpness * np.where(np.isinf(distance), 0.0, distance)))


def _normalised(weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)


TABLE_STRATEGIES = {"table": "ridge", "table_knn": "knn"}
MIN_KNOWN = 2  # measured perturbations that a strategy learns from
ALL_STRATEGIES = ("cluster", "knn", "ridge", "mean", *TABLE_STRATEGIES)


@dataclass(frozen=True)
class PerturbationSpace:
    """Embeddings of K measured perturbations and the way from a name to the embedding of an unseen one.

    Parameters
    ----------
    names
        The measured perturbations, control not among them.
    embedding
        (K, E) PCA scores of their effects.
    effects
        The principal components.
    genes
        Gene space.
    user_vectors
        A user's own vectors, index = perturbations or genes.
    separator
        Between the parts of a combination.
    ranking
        Strategies, best first; a target gets the first that can place it.
    places_anything
        Whether ``"mean"`` places names that nothing is known of. Only a user can want that: a misspelt name would pass.

    Examples
    --------
    >>> space = model.predictor().space
    >>> space.is_measured(unseen[0]), space.strategy_of(unseen[0]) in space.ranking
    (False, True)
    >>> space.embed(unseen).shape == (2, space.embedding.shape[1])
    True
    """

    names: tuple[str, ...]
    embedding: np.ndarray
    effects: EffectSpace
    genes: GeneSpace
    user_vectors: pd.DataFrame | None = None
    separator: str = "+"
    ranking: tuple[str, ...] = ("ridge",)
    places_anything: bool = False
    _rows: dict[str, int] = field(default_factory=dict, repr=False)
    _learnable: dict[str, bool] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._rows.update({name: row for row, name in enumerate(self.names)})

    @property
    def control(self) -> np.ndarray:
        """Embedding of control, (E,)."""
        return self.effects.control

    def with_ranking(self, ranking: Sequence[str], *, places_anything: bool | None = None) -> PerturbationSpace:
        """The same space with other strategies."""
        anything = self.places_anything if places_anything is None else places_anything
        return replace(self, ranking=tuple(ranking), places_anything=anything, _rows={}, _learnable={})

    def parts(self, name: str) -> tuple[str, ...]:
        """Parts of a combination; a name that stands for itself is its only part."""
        return self._split(name)

    def is_measured(self, name: str) -> bool:
        """Whether the perturbation, its parts in any order, has a row of its own."""
        return self.row(name) is not None

    def can_embed(self, name: str) -> bool:
        """Whether :meth:`embed` has an answer."""
        return all(self.is_measured(piece) or self._strategy_of(piece) is not None for piece in self._pieces(name))

    def check_placed(self, names: Sequence[str]) -> None:
        """Raise as :meth:`embed` would, without the work.

        Raises
        ------
        KeyError
            If a part is neither measured, nor a measured gene, nor in the user's vectors.
        ValueError
            If the strategy that would place a part has too little to learn from.
        """
        pieces = sorted({piece for name in names for piece in self._pieces(name) if not self.is_measured(piece)})
        for piece in pieces:
            if self._strategy_of(piece) is None:
                raise self._refusal(piece, [other for other in pieces if self._strategy_of(other) is None])

    def embed(self, names: Sequence[str]) -> np.ndarray:
        """Embeddings (n, E): measured ones as measured, unseen ones by strategy, combinations as the sum of parts.

        A combination with a vector of its own is placed by it where a table strategy ranks before what its parts need.

        Raises
        ------
        KeyError
            If a part is neither measured, nor a measured gene, nor in the user's vectors.
        """
        pieces = {name: self._pieces(name) for name in names}
        unseen = self._embed_unseen(sorted({p for some in pieces.values() for p in some if not self.is_measured(p)}))
        known = {p: unseen[p] if p in unseen else self.embedding[self.row(p)] for some in pieces.values() for p in some}
        answer = np.empty((len(names), self.embedding.shape[1]))
        for i, name in enumerate(names):
            vectors = [known[piece] for piece in sorted(pieces[name])]  # so that their order changes no bit of the sum
            answer[i] = vectors[0] if self.is_measured(name) else self.control + sum(v - self.control for v in vectors)
        return answer

    def strategy_of(self, name: str) -> str:
        """Strategies that place a perturbation, joined by the separator; ``"measured"`` for a measured part."""
        labels = ["measured" if self.is_measured(p) else self._strategy_of(p) for p in self._pieces(name)]
        return self.separator.join(label or "none" for label in labels)

    def predict_effect(self, names: Sequence[str]) -> np.ndarray:
        """Effects (n, G) read off the embeddings by the principal components."""
        return self.effects.to_effect(self.embed(names))

    def located(self, names: Sequence[str]) -> np.ndarray:
        """Members (n, K) of the effect clusters in which the paper's rule locates genes; all where it locates them nowhere."""
        member = np.ones((len(names), len(self.names)), dtype=bool)
        placed = self._rows_with_vectors(names, "cluster")
        if len(placed) and self.can_learn("cluster"):
            known, evidence = self._known("cluster")
            targets = self._evidence([names[i] for i in placed], "cluster")
            labels, chosen = locate_cluster(evidence, self.embedding[known], targets)
            for i, cluster in zip(placed, chosen, strict=True):
                if cluster != UNCLUSTERED:
                    member[i] = np.isin(np.arange(len(self.names)), known[labels == cluster])
        return member

    def similarity(self, names: Sequence[str]) -> np.ndarray:
        """Cosines (n, K) of vectors (gene space, or a user's own) with those of the measured; NaN where one has none."""
        return self.unit_vectors(names) @ self.unit_vectors(self.names).T

    def unit_vectors(self, names: Sequence[str]) -> np.ndarray:
        """Vectors (n, R) of length one, by gene space or a user's own, whichever ranks first; NaN where a name has none."""
        strategy = next((s for s in self.ranking if s in TABLE_STRATEGIES), "knn")
        known = self._rows_with_vectors(names, strategy)
        unit = np.full((len(names), self._features(strategy).shape[1]), np.nan)
        if len(known):
            vectors = self._evidence([names[i] for i in known], strategy).vectors
            unit[known] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
        return unit

    def leave_out(self, *left_out: str) -> PerturbationSpace:
        """The same axes without the rows of some perturbations: where they would lie, had they not been measured."""
        kept = [i for i, name in enumerate(self.names) if name not in left_out]
        names = tuple(self.names[i] for i in kept)
        return replace(self, names=names, embedding=self.embedding[kept], _rows={}, _learnable={})

    def own_genes(self, name: str) -> np.ndarray:
        """Columns of the measured genes that a perturbation hits."""
        columns = self.genes.names.get_indexer(list(self.parts(name)))
        return columns[columns >= 0]

    def row(self, name: str) -> int | None:
        """Row of a measured perturbation, parts in any order; None if it was not measured."""
        if name in self._rows:
            return self._rows[name]
        return self._order_free.get(tuple(sorted(self.parts(name))))

    @cached_property
    def _order_free(self) -> dict[tuple[str, ...], int]:
        return {tuple(sorted(self.parts(name))): row for name, row in self._rows.items()}

    def _pieces(self, name: str) -> tuple[str, ...]:
        """What is added up to place a perturbation: itself where it is known as a whole, else its parts."""
        parts = self.parts(name)
        if len(parts) == 1 or self.is_measured(name):
            return (name,)
        whole = self._strategy_of(name)
        if whole is None:
            return parts
        needed = [self._strategy_of(part) for part in parts if not self.is_measured(part)]
        last = max((self.ranking.index(strategy) for strategy in needed if strategy), default=0)
        return (name,) if None in needed or self.ranking.index(whole) <= last else parts

    def _strategy_of(self, piece: str) -> str | None:
        """The first strategy that knows something of a name and has enough measured ones to learn from."""
        return next((s for s in self.ranking if self._knows(piece, s) and self.can_learn(s)), None)

    def _knows(self, piece: str, strategy: str) -> bool:
        in_table = self._own.row(piece) is not None
        if strategy in TABLE_STRATEGIES:
            return in_table
        is_single = self.parts(piece) == (piece,)
        return piece in self.genes.names or (strategy == "mean" and is_single and (in_table or self.places_anything))

    @cached_property
    def _split(self) -> Callable[[str], tuple[str, ...]]:
        """Holds names alone. Given to others, a method would hold this space, which then lives until garbage is collected."""
        return partial(split_name, separator=self.separator, whole=self.genes.names)

    @cached_property
    def _own(self) -> OwnVectors:
        return OwnVectors(self.user_vectors, self._split)

    def _embed_unseen(self, parts: list[str]) -> dict[str, np.ndarray]:
        chosen = {part: self._strategy_of(part) for part in parts}
        for part, strategy in chosen.items():
            if strategy is None:
                raise self._refusal(part)
        answer: dict[str, np.ndarray] = {}
        for strategy in sorted({s for s in chosen.values() if s is not None}):
            members = [part for part in parts if chosen[part] == strategy]
            known, evidence = self._known(strategy)
            predict = STRATEGIES[TABLE_STRATEGIES.get(strategy, strategy)]
            vectors = predict(evidence, self.embedding[known], self._evidence(members, strategy))
            answer.update(zip(members, vectors, strict=True))
        return answer

    def _known(self, strategy: str) -> tuple[np.ndarray, Evidence]:
        """Rows of the measured perturbations that a strategy can learn from, and their evidence."""
        if strategy == "mean":  # of single ones, since parts are placed; a mean of parts and sums is neither's
            single = np.flatnonzero([len(self.parts(name)) == 1 for name in self.names])
            rows = single if len(single) else np.arange(len(self.names))
            return rows, Evidence(np.zeros((len(rows), 1)), np.full(len(rows), UNCLUSTERED))
        rows = self._rows_with_vectors(self.names, strategy)
        if len(rows) < MIN_KNOWN:
            raise too_few(strategy, len(rows), MIN_KNOWN)
        return rows, self._evidence([self.names[i] for i in rows], strategy)

    def can_learn(self, strategy: str) -> bool:
        """Whether enough measured perturbations have vectors for a strategy to learn from; the mean needs none."""
        if strategy == "mean":
            return len(self.names) > 0
        if strategy in TABLE_STRATEGIES and self.user_vectors is None:
            return False
        if strategy not in self._learnable:
            self._learnable[strategy] = len(self._rows_with_vectors(self.names, strategy)) >= MIN_KNOWN
        return self._learnable[strategy]

    def _rows_with_vectors(self, names: Sequence[str], strategy: str) -> np.ndarray:
        """Positions of the names all of whose parts have a vector."""
        columns, first = self._columns(names, strategy)
        return np.flatnonzero(np.minimum.reduceat(columns, first) >= 0) if len(names) else np.empty(0, dtype=int)

    def _evidence(self, names: Sequence[str], strategy: str) -> Evidence:
        if strategy == "mean" or not names:
            return Evidence(np.zeros((len(names), 1)), np.full(len(names), UNCLUSTERED))
        vectors = self._features(strategy)
        columns, first = self._columns(names, strategy)
        summed = np.add.reduceat(vectors[columns], first)
        if strategy in TABLE_STRATEGIES:
            return Evidence(summed, np.full(len(names), UNCLUSTERED))
        is_single = np.diff(first, append=len(columns)) == 1
        return Evidence(summed, np.where(is_single, self.genes.clusters[columns[first]], UNCLUSTERED))

    def _columns(self, names: Sequence[str], strategy: str) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the vectors of all parts of all names, -1 where absent, and where every name's parts begin.

        A combination with a vector of its own has that, and not those of its parts.
        """
        is_own = strategy in TABLE_STRATEGIES
        parts = [(name,) if is_own and self._own.row(name) is not None else self.parts(name) for name in names]
        first = np.cumsum([0, *(len(one) for one in parts[:-1])])
        flat = [part for one in parts for part in one]
        if not is_own:
            return self.genes.names.get_indexer(flat), first
        rows = [self._own.row(part) for part in flat]
        return np.array([-1 if row is None else row for row in rows], dtype=int), first

    def _features(self, strategy: str) -> np.ndarray:
        return self._own.evidence if strategy in TABLE_STRATEGIES else self.genes.evidence

    def _refusal(self, name: str, all_refused: Sequence[str] = ()) -> Exception:
        known = next((s for s in self.ranking if self._knows(name, s)), None)
        if known is not None:
            return too_few(known, len(self._rows_with_vectors(self.names, known)), MIN_KNOWN)
        return not_placed(name, self.names, self.genes.names, self._own.names, [o for o in all_refused if o != name])


def fit_space(
    names: Sequence[str],
    observed: ObservedEffects,
    genes: GeneSpace,
    n_embedding: int,
    ranking: Sequence[str],
    user_vectors: pd.DataFrame | None = None,
    separator: str = "+",
    *,
    places_anything: bool = False,
    n_axes: int | None = None,
    axes: EffectSpace | None = None,
) -> PerturbationSpace:
    """Embed K measured perturbations by the principal components of their effects, of the first ``n_axes``, or given ones.

    Examples
    --------
    >>> screen = model.predictor().screen
    >>> space = fit_space(screen.names, screen.observed, screen.genes, n_embedding=3, ranking=("knn", "mean"))
    >>> space.embed(unseen).shape, space.strategy_of(unseen[0])
    ((2, 3), 'knn')
    """
    spanning = observed if n_axes is None else observed.subset(np.arange(n_axes))
    effects = axes or fit_effect_space(spanning.effect, spanning.mean_noise(), n_embedding)
    embedding = effects.to_embedding(observed.effect)
    return PerturbationSpace(tuple(names), embedding, effects, genes, user_vectors, separator, tuple(ranking), places_anything)


# Choice of the strategy for unseen perturbations: the least error on measured ones that were left out.


COLUMNS = ["mse", "relative_to_mean", "se", "n"]


def score_strategies(
    placed: Iterable[tuple[PerturbationSpace, Sequence[str]]], effect: Mapping[str, np.ndarray], *, has_table: bool
) -> pd.DataFrame:
    """Error of every strategy on measured perturbations, each placed by a space that knows nothing of it.

    Only perturbations that a strategy could place enter its score; combinations do not, since they add their parts whatever
    the strategy. The perturbed gene's own effect is left out of the error.

    Parameters
    ----------
    placed
        Spaces, and the names that each is asked for.
    effect
        Name to observed effect (G,).
    has_table
        Whether there are a user's own vectors.

    Returns
    -------
    DataFrame
        Index = strategy, best first; ``mse`` (squared error of the effect, log1p CP10K), ``relative_to_mean`` (the same
        over the error of the mean of the others on the same perturbations), ``se`` (standard error of that ratio over
        perturbations), ``n`` (perturbations scored). Strategies that nothing could be scored for are absent.

    Examples
    --------
    >>> predictor = model.predictor()
    >>> names, effect = predictor.screen.names, predictor.screen.observed.effect
    >>> placed = [(space, [names[i] for i in rows]) for space, rows in predictor.left_out.folds()]
    >>> table = score_strategies(placed, dict(zip(names, effect, strict=True)), has_table=False)
    >>> float(table.loc["mean", "relative_to_mean"])
    1.0
    """
    strategies = [s for s in ALL_STRATEGIES if has_table or s not in TABLE_STRATEGIES]
    errors: dict[str, dict[str, float]] = {strategy: {} for strategy in strategies}
    for space, names in placed:
        single = [name for name in names if len(space.parts(name)) == 1]
        for strategy in strategies:
            errors[strategy] |= _errors(space.with_ranking((strategy,), places_anything=True), single, effect)
    return _ranked(errors)


def _errors(space: PerturbationSpace, names: Sequence[str], effect: Mapping[str, np.ndarray]) -> dict[str, float]:
    names = [name for name in names if space.can_embed(name)]
    if not names:
        return {}
    others = [space.genes.names != name for name in names]
    predicted = space.predict_effect(names)
    return {
        name: float(np.mean((values - effect[name])[counted] ** 2))
        for name, values, counted in zip(names, predicted, others, strict=True)
    }


def _ranked(errors: dict[str, dict[str, float]]) -> pd.DataFrame:
    rows = {}
    for strategy, of_names in errors.items():
        if of_names:
            own = np.array(list(of_names.values()))
            mean = np.array([errors["mean"][name] for name in of_names])
            ratio = own.mean() / mean.mean()
            spread = np.std(own - ratio * mean, ddof=1) / np.sqrt(len(own)) if len(own) > 1 else np.nan
            rows[strategy] = {"mse": own.mean(), "relative_to_mean": ratio, "se": spread / mean.mean(), "n": len(own)}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=COLUMNS)
    table.index.name = "strategy"
    return table.astype({"n": int}).sort_values("relative_to_mean", kind="stable")


# Where the perturbations of a screen would lie, had those of each fold not been measured.


FALLBACK = "mean"  # of genes that no strategy learns to place
MAX_GROUPS, MIN_GROUPS = 80, 10  # of perturbations, left out of screens that were saved without folds
MAX_LEFT_OUT = 400


@dataclass(frozen=True)
class LeftOutSpaces:
    """Perturbation spaces of a screen without its folds; what is left out has no part in gene space, axes or strategy.

    Parameters
    ----------
    screen
        With :attr:`Screen.left_out`.
    n_embedding, user_vectors, separator
        As in :func:`fit_space`.
    strategy
        ``"auto"``: the best on other folds. Any other word is the only one.
    joint
        Names and effects whose principal components are the axes; None means the screen's own.
    left_out
        Of the screen, or of one that shares its gene space.

    Examples
    --------
    What is left out of a fold has no part in its space:

    >>> space, rows = model.predictor().left_out.folds()[0]
    >>> names = [model.perturbation_names[i] for i in rows]
    >>> any(space.is_measured(name) for name in names)
    False
    """

    screen: Screen
    n_embedding: int
    left_out: LeftOut
    user_vectors: pd.DataFrame | None = None
    strategy: str = "auto"
    joint: tuple[Sequence[str], np.ndarray] | None = None
    _genes: dict[int, GeneSpace] = field(default_factory=dict, repr=False)
    _axes: dict[int, EffectSpace] = field(default_factory=dict, repr=False)
    _rankings: dict[int | None, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def folds(self) -> list[tuple[PerturbationSpace, list[int]]]:
        """For every fold its space, and the rows of the screen that are scored in it; folds without rows are left out."""
        row = {name: i for i, name in enumerate(self.screen.names)}
        scored = [[row[name] for name in fold.scored if name in row] for fold in self.left_out.folds]
        return [(self.space(i, self.ranking(i)), rows) for i, rows in enumerate(scored) if rows and self._rows_of(i).size]

    def scores(self, fold: int | None = None) -> pd.DataFrame:
        """:func:`score_strategies` on all folds, or, without a fold, on its neighbours."""
        effect = dict(zip(self.screen.names, self.screen.observed.effect, strict=True))
        if fold is None:
            asked = list(enumerate(one.scored for one in self.left_out.folds))
        else:
            asked = [(space, self.left_out.folds[other].scored) for other, space in self.left_out.inner[fold]]
        placed = [
            (self.space(i, ("ridge",)), [name for name in names if name in effect])
            for i, names in asked
            if self._rows_of(i).size
        ]
        return score_strategies(placed, effect, has_table=self.user_vectors is not None)

    def ranking(self, fold: int | None = None) -> tuple[str, ...]:
        """Strategies, best first, for targets, or for the perturbations of a fold as if they were targets."""
        if self.strategy != "auto":
            return (self.strategy,)
        if fold not in self._rankings:
            is_judged = fold is None or bool(self.left_out.inner[fold])
            found = tuple(self.scores(fold).index) if is_judged else self.ranking()
            self._rankings[fold] = found if FALLBACK in found else (*(found or ("ridge",)), FALLBACK)
        return self._rankings[fold]

    def space(self, index: int, ranking: Sequence[str]) -> PerturbationSpace:
        """The perturbations that one of the spaces keeps, on axes of their own."""
        kept, without = self._rows_of(index), self.left_out.spaces[index]
        if index not in self._genes:
            self._genes[index] = GeneSpace(self.screen.genes.names, without.vectors)
            self._axes[index] = self._fit_axes(kept, without)
        return fit_space(
            [self.screen.names[i] for i in kept],
            self.screen.observed.subset(kept),
            self._genes[index],
            self.n_embedding,
            ranking,
            self.user_vectors,
            self.screen.separator,
            places_anything=self.strategy == FALLBACK,
            axes=self._axes[index],
        )

    def permuted(self, seed: int) -> LeftOutSpaces:
        """A placebo: the vectors of single perturbations (of their genes, or a user's own) permuted among them.

        Strategies and their ranking stay those of the screen, so that only what is known of perturbations is destroyed.
        """
        rng = np.random.default_rng(seed)
        singles = [
            name for name in self.screen.names if split_name(name, self.screen.separator, self.screen.genes.names) == (name,)
        ]
        genes = _dealt_out(self.screen.genes.names, singles, rng)
        table = self.user_vectors
        if table is not None:
            table = table.iloc[_dealt_out(table.index, singles, rng)].set_axis(table.index, axis=0)
        for i in range(len(self.left_out.folds)):
            self.ranking(i)
            if self._rows_of(i).size:
                self.space(i, ("ridge",))  # so that its genes and axes are there to share
        return replace(
            self,
            user_vectors=table,
            _genes={i: space.permuted(genes) for i, space in self._genes.items()},
            _axes=self._axes,
            _rankings=self._rankings,
        )

    def _rows_of(self, index: int) -> np.ndarray:
        excluded = set(self.left_out.spaces[index].excluded)
        return np.array([i for i, name in enumerate(self.screen.names) if name not in excluded], dtype=int)

    def _fit_axes(self, kept: np.ndarray, without: SpaceWithout) -> EffectSpace:
        if self.joint is None:
            return fit_effect_space(self.screen.observed.effect[kept], without.noise, self.n_embedding)
        names, effect = self.joint
        excluded = set(without.excluded)
        return fit_effect_space(effect[[name not in excluded for name in names]], without.noise, self.n_embedding)


def _dealt_out(index: pd.Index, names: Sequence[str], rng: np.random.Generator) -> np.ndarray:
    """Positions of an index, those of the names permuted among them."""
    found = index.get_indexer(list(names))
    found = found[found >= 0]
    rows = np.arange(len(index))
    rows[found] = rng.permutation(found)
    return rows


def one_gene_space(names: Sequence[str], observed: ObservedEffects, vectors: np.ndarray) -> LeftOut:
    """Folds of a screen that was saved without any: their cells are in gene space, which flatters every strategy.

    One perturbation a fold up to 80 of them, groups above.

    Examples
    --------
    >>> one = np.ones((4, 7))
    >>> observed = ObservedEffects(one, one, one, one, 9.0, one, np.full(4, 5))
    >>> len(one_gene_space("ABCD", observed, np.ones((7, 2))).folds)
    4
    """
    n = len(names)
    groups = MAX_GROUPS * min(1.0, MAX_LEFT_OUT / max(n, 1))
    group = np.arange(n) % max(1, min(n, max(MIN_GROUPS, round(groups))))
    folds, spaces = [], []
    for one in np.unique(group) if n > 2 else ():
        scored = tuple(names[int(i)] for i in np.flatnonzero(group == one))
        kept = observed.subset(np.flatnonzero(group != one))
        folds.append(Fold(scored, scored))
        spaces.append(SpaceWithout(scored, vectors, kept.mean_noise()))
    return LeftOut(tuple(folds), tuple(spaces), tuple(() for _ in folds))
