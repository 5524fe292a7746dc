"""Where perturbations lie: measured ones by their effects, unseen ones by a strategy, combinations by adding parts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion.embedding._effect_space import EffectSpace, fit_effect_space
from dbdiffusion.embedding._refusals import not_placed, too_few
from dbdiffusion.embedding._strategies import STRATEGIES, UNCLUSTERED, Evidence, locate_cluster
from dbdiffusion.embedding._vectors import OwnVectors
from dbdiffusion.screen import split_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from dbdiffusion.screen import GeneSpace, ObservedEffects

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
        return split_name(name, self.separator, self.genes.names)

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
    def _own(self) -> OwnVectors:
        return OwnVectors(self.user_vectors, self.parts)

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
