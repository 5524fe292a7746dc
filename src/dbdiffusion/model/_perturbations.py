"""Which perturbations there are and where they lie: measured, unseen, added."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from dbdiffusion._keys import REGISTRY
from dbdiffusion.data import PerturbationField, aligned_vectors, check_vectors, say, vectors_from_state
from dbdiffusion.embedding import ALL_STRATEGIES, LeftOutSpaces, fit_space, one_gene_space
from dbdiffusion.model._options import word
from dbdiffusion.model._screen import genes_of
from dbdiffusion.screen import NameRule, listed_names, one_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scvi.model import SCVI as _Base
    from torch import Tensor

    from dbdiffusion.embedding import EffectSpace, PerturbationSpace
    from dbdiffusion.screen import Screen
else:
    _Base = object


class PerturbationMixin(_Base):
    """Embeddings of perturbations."""

    _cached_space: PerturbationSpace | None
    _cached_left_out: LeftOutSpaces | None
    _pools: dict
    _views: dict
    cross_fit_: dict | None
    added_perturbations_: list[str]
    added_vectors_: pd.DataFrame | None

    @property
    def strategy(self) -> str:
        """How unseen perturbations are placed: ``"auto"`` or one of the strategies; see :meth:`set_strategy`.

        Examples
        --------
        >>> model.strategy
        'auto'
        """
        return getattr(self, "strategy_", "auto")

    def set_strategy(self, strategy: str) -> None:
        """Choose how unseen perturbations are placed.

        Parameters
        ----------
        strategy
            ``"auto"`` (the least leave-one-out error, see :meth:`embedding_scores`), ``"cluster"`` (the paper's),
            ``"knn"``, ``"ridge"``, ``"mean"``, or, with vectors of your own, ``"table"`` and ``"table_knn"``.

        Raises
        ------
        ValueError
            For another word.

        Examples
        --------
        >>> import copy
        >>> copied = copy.deepcopy(model)
        >>> copied.set_strategy("knn")
        >>> copied.strategy_of(unseen[0])
        'knn'
        """
        self.strategy_ = word("strategy", strategy, tuple(sorted(("auto", *ALL_STRATEGIES))))
        self._forget_space()  # the folds were placed by another strategy

    def perturbation_embeddings(self) -> pd.DataFrame:
        """Embeddings (perturbations, E): control, measured, then added ones. Needs stage two.

        Examples
        --------
        >>> table = model.perturbation_embeddings()
        >>> table.index[0], table.shape == (1 + len(model.perturbation_names), 6)
        ('control', True)
        """
        space = self._space()
        names = self.perturbation_names
        rows = np.vstack([space.control, space.embed(names)])
        columns = [f"E{i + 1}" for i in range(rows.shape[1])]
        return pd.DataFrame(rows, index=[self._screen().control, *names], columns=columns)

    def embedding_scores(self) -> pd.DataFrame:
        """Left-out error of every strategy for unseen perturbations, best first. Needs stage two.

        Every measured perturbation is placed by gene space, principal components and regressions that its fold had no part
        in. ``relative_to_mean`` is the squared error over that of the mean of the others, ``se`` its standard error.

        Examples
        --------
        >>> scores = model.embedding_scores()
        >>> bool(scores["relative_to_mean"].is_monotonic_increasing)
        True
        """
        return self._left_out_spaces(self._screen()).scores()

    def strategy_of(self, name: str) -> str:
        """How a perturbation is placed: ``"measured"``, or its strategies, one a part.

        Examples
        --------
        >>> model.strategy_of(model.perturbation_names[0])
        'measured'
        """
        return self._space().strategy_of(self._canonical([one_name(name)])[0])

    def parts_of(self, name: str) -> tuple[str, ...]:
        """Parts of a combination; a single perturbation is its only part.

        Examples
        --------
        >>> model.parts_of("GENE00+GENE01")
        ('GENE00', 'GENE01')
        """
        return self._space().parts(self._canonical([one_name(name)])[0])

    def baseline_effects(self, name: str) -> dict[str, np.ndarray]:
        """Simple predictions (G,) of an unseen perturbation, from measured ones alone.

        ``mean`` of the measured perturbations, ``zero``, and ``ridge`` regression from gene space to effects (for a
        combination of measured parts the sum of their effects); the mean again where gene space cannot place it.

        Examples
        --------
        >>> sorted(model.baseline_effects(unseen[0]))
        ['mean', 'ridge', 'zero']
        """
        observed, space = self._screen().observed, self._space()
        name = self._canonical([one_name(name)])[0]
        mean = observed.effect.mean(axis=0)
        ridge = space.with_ranking(("ridge",))
        unseen = name if not space.is_measured(name) else None
        known = unseen is not None and space.can_learn("ridge") and ridge.can_embed(unseen)
        return {"mean": mean, "zero": np.zeros_like(mean), "ridge": ridge.predict_effect([name])[0] if known else mean}

    def control_variance(self) -> np.ndarray:
        """Sampling variance (G,) of the control mean, which all observed effects share. Needs stage two.

        Examples
        --------
        >>> model.control_variance().shape == (adata.n_vars,)
        True
        """
        return self._screen().observed.control_variance.mean(axis=0)

    def add_perturbations(self, names: Sequence[str], embeddings: pd.DataFrame | None = None) -> None:
        """Register perturbations that have no cells, so that ``targets=None`` includes them.

        Parameters
        ----------
        names
            Genes, names in your table, or combinations.
        embeddings
            Your own vectors, index = names or genes, columns as in the registered table if there is one.

        Raises
        ------
        ValueError
            If a name is registered already, or the vectors' columns do not match.
        KeyError
            If nothing places a name (stage two must be trained for this check).

        Examples
        --------
        >>> import copy
        >>> copied = copy.deepcopy(model)
        >>> copied.add_perturbations(unseen)
        >>> unseen[0] in copied.perturbation_names
        True
        """
        names = self._canonical(listed_names(names, "names"))
        known = set(self.perturbation_names)
        repeated = [name for name in names if name in known]
        if repeated or len(set(names)) < len(names):
            repeated = repeated or [name for name in names if names.count(name) > 1]
            msg = f"{repeated[:3]!r} are registered already; add only new names."
            raise ValueError(msg)
        vectors = self.added_vectors_
        if embeddings is not None:
            rule = self._name_rule()
            vectors = _stacked(self._user_vectors(), check_vectors(embeddings, "`embeddings`", rule), rule)
        before = self.added_vectors_, self._cached_left_out
        self.added_vectors_ = vectors
        if embeddings is not None:
            self._cached_left_out = None
        if self.is_diffusion_trained_:
            try:
                space = self._space() if embeddings is None else self._space_of(self._screen())
                space.embed(names)
            except BaseException:
                self.added_vectors_, self._cached_left_out = before
                raise
        if embeddings is not None:
            self._forget_space()
        self.added_perturbations_ = [*self.added_perturbations_, *names]

    def _name_rule(self) -> NameRule:
        state = self.registry_["field_registries"][REGISTRY.PERTURBATION]["state_registry"]
        genes = pd.Index(genes_of(self.registry_))
        return NameRule(state[PerturbationField.CONTROL], state[PerturbationField.SEPARATOR], genes)

    def _canonical(self, names: Sequence[str]) -> list[str]:
        """The one name of each perturbation: as it is registered, else without control and repeats, as it is written first."""
        names = [names] if isinstance(names, str) else list(names)
        rule = self._name_rule()
        if not any(rule.separator and rule.separator in str(name) for name in names):
            return [str(name) for name in names]
        known = {rule.key(name): name for name in reversed([rule.control, *self.perturbation_names])}
        repeated = [name for name in names if rule.repeats(name) and rule.clean(name) != rule.control]
        if repeated:
            first = repeated[0]
            say(f"{first!r} is read as {rule.clean(first)!r}: a part counts once, and a double dose needs a name of its own.")
        exact = set(known.values())
        return [str(name) if name in exact else known.setdefault(rule.key(name), rule.clean(name)) for name in names]

    def _space(self) -> PerturbationSpace:
        if self._cached_space is None:
            self._cached_space = self._space_of(self._screen())
        return self._cached_space

    def _forget_space(self) -> None:
        """Drop what was derived from embeddings: the space, reference predictions and cross-fitting folds."""
        self._cached_space = self._cached_left_out = self.cross_fit_ = None
        self._pools = {}
        self._views = {}

    def _space_of(
        self, screen: Screen, left_out: LeftOutSpaces | None = None, axes: EffectSpace | None = None
    ) -> PerturbationSpace:
        return fit_space(
            screen.names,
            screen.observed,
            screen.genes,
            self.module.n_embedding,
            (left_out or self._left_out_spaces(screen)).ranking(),
            self._user_vectors(),
            screen.separator,
            places_anything=self.strategy == "mean",
            n_axes=screen.n_axes,
            axes=axes,
        )

    def _left_out_spaces(self, screen: Screen) -> LeftOutSpaces:
        """Spaces of a screen without its folds, kept until what they rest on changes."""
        if self._cached_left_out is None or self._cached_left_out.screen is not screen:
            self._cached_left_out = self._new_left_out_spaces(screen)
        return self._cached_left_out

    def _new_left_out_spaces(self, screen: Screen, joint: tuple[Sequence[str], np.ndarray] | None = None) -> LeftOutSpaces:
        """Their axes are those of the screen, or of the names and effects that ``joint`` has."""
        left_out = screen.left_out or one_gene_space(screen.names, screen.observed, screen.vectors)
        return LeftOutSpaces(screen, self.module.n_embedding, left_out, self._user_vectors(), self.strategy, joint)

    def _conditions(self, space: PerturbationSpace) -> tuple[Tensor, Tensor]:
        """Conditions (codes, E) of the registered codes that the space measured, and control's (E,)."""
        state = self.registry_["field_registries"][REGISTRY.PERTURBATION]["state_registry"]
        categories = [str(name) for name in state[PerturbationField.CATEGORICAL_MAPPING_KEY]]
        table = np.repeat(space.control[None], len(categories), axis=0)
        measured = [i for i, name in enumerate(categories) if space.is_measured(name)]
        table[measured] = space.embed([categories[i] for i in measured])
        conditions = self._as_condition(table)
        return conditions, conditions[categories.index(state[PerturbationField.CONTROL])]

    def _as_condition(self, embedding: np.ndarray) -> Tensor:
        """Embeddings (n, E) padded with zeros to the width the network was built for; no context."""
        width = self.module.n_embedding + self.module.n_context
        padded = np.zeros((len(embedding), width), dtype=np.float32)
        padded[:, : embedding.shape[1]] = embedding
        return torch.as_tensor(padded)

    def _user_vectors(self) -> pd.DataFrame | None:
        if self.added_vectors_ is not None:
            return self.added_vectors_
        state = self.registry_["field_registries"].get(REGISTRY.EMBEDDING, {}).get("state_registry", {})
        return vectors_from_state(state)


def _stacked(before: pd.DataFrame | None, new: pd.DataFrame, rule: NameRule) -> pd.DataFrame:
    if before is None:
        return new
    columns = None if isinstance(before.columns, pd.RangeIndex) else list(before.columns)
    new = aligned_vectors(new, columns, before.shape[1], "`embeddings`").set_axis(before.columns, axis=1)
    keys = {rule.key(name) for name in new.index}
    return pd.concat([before[[rule.key(name) not in keys for name in before.index]], new])
