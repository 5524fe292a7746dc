"""Which perturbations there are and where they lie: measured, unseen, added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd

from dbdiffusion._keys import REGISTRY
from dbdiffusion._words import say, word
from dbdiffusion.data import PerturbationField, aligned_vectors, check_vectors, vectors_from_state
from dbdiffusion.embedding import ALL_STRATEGIES
from dbdiffusion.model._predictors import PredictorsMixin
from dbdiffusion.model._screen import genes_of
from dbdiffusion.predict import own_table
from dbdiffusion.screen import NameRule, listed_names, meant, one_name

if TYPE_CHECKING:
    from collections.abc import Sequence


class PerturbationMixin(PredictorsMixin):
    """How perturbations are called and placed, and which were added."""

    added_perturbations_: list[str]
    added_vectors_: pd.DataFrame | None
    own_predictors_: dict[str, Any] | None

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
        self._forget_predictors()  # the folds were placed by another strategy

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
        before = self.added_vectors_
        self.added_vectors_ = vectors
        if self.is_diffusion_trained_:
            try:
                predictor = self.predictor() if embeddings is None else self._predictor_of(self._screen())
                predictor.space.embed(names)
            except BaseException:
                self.added_vectors_ = before
                raise
        if embeddings is not None:
            self._forget_predictors()
        self.added_perturbations_ = [*self.added_perturbations_, *names]

    def add_predictor(self, name: str, effects: Any) -> float | dict[str, float]:
        """Let the predictions of another model be stacked, rectified, tested and calibrated beside ours.

        The table must hold every measured perturbation *as if it had not been measured*: leave a fold of perturbations out,
        train the other model on the rest, predict the fold, put the folds together; predict the targets by the model of all.
        That it was made so is your word. What cannot be is refused: an error on the references below their known noise.

        Parameters
        ----------
        name
            Of the predictor, as ``attrs["weights"]`` of the tables shows its weight.
        effects
            DataFrame (index = perturbations, columns = genes) or AnnData of effects against control, mean log1p CP10K: every
            measured perturbation, and every target that will be asked for. With contexts a dictionary, context to such a table
            of the perturbations measured in it.

        Returns
        -------
        float or dict
            Squared error on the references over the noise of their observed effects: 1 is as good as the truth. With contexts
            that of each.

        Raises
        ------
        ValueError
            If the name is taken, a context has no table, or the predictions were made with the references' cells.
        KeyError
            If a gene or a reference is missing.
        TypeError
            If it is no table.

        Examples
        --------
        >>> import copy
        >>> import pandas as pd
        >>> copied = copy.deepcopy(model)
        >>> names = [*copied.perturbation_names, *unseen]
        >>> no_effect = pd.DataFrame(0.0, index=names, columns=adata.var_names)
        >>> copied.add_predictor("nothing", no_effect) > 1
        True
        >>> table = copied.predict_effects(unseen[0], n_cells=64)
        >>> float(table.attrs["weights"]["single"]["nothing"])
        0.0
        """
        name = one_name(name)
        known = self.own_predictors_ or {}
        taken = sorted({"generated", *ALL_STRATEGIES, *known})
        if name in taken:
            msg = f"{name!r} is the name of a predictor that is there already; choose one that is none of {taken}."
            raise ValueError(msg)
        rule = self._name_rule()
        if not self.contexts:
            table, error = own_table(self.predictor(), name, effects, rule)
            self.own_predictors_ = {**known, name: table.effects}
            self._forget_predictors()
            return error
        given = _of_each_context(effects, self.contexts)
        read = {context: own_table(self.predictor(context), name, table, rule) for context, table in given.items()}
        self.own_predictors_ = {**known, name: {context: table.effects for context, (table, _) in read.items()}}
        self._forget_predictors()
        return {context: error for context, (_, error) in read.items()}

    def remove_predictor(self, name: str) -> None:
        """Take a predictor away that was added.

        Raises
        ------
        KeyError
            If there is none of the name.

        Examples
        --------
        >>> import copy
        >>> import pandas as pd
        >>> copied = copy.deepcopy(model)
        >>> names = copied.perturbation_names
        >>> _ = copied.add_predictor("nothing", pd.DataFrame(0.0, index=names, columns=adata.var_names))
        >>> copied.remove_predictor("nothing")
        >>> copied.predict_effects(unseen[0], n_cells=64).attrs["weights"]["single"].keys() == {"generated", "knn", "ridge"}
        True
        """
        known = self.own_predictors_ or {}
        if name not in known:
            msg = f"No predictor {name!r} was added, only {sorted(known)}.{meant(str(name), known)}"
            raise KeyError(msg)
        self.own_predictors_ = {key: table for key, table in known.items() if key != name} or None
        self._forget_predictors()

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

    def _user_vectors(self) -> pd.DataFrame | None:
        if self.added_vectors_ is not None:
            return self.added_vectors_
        state = self.registry_["field_registries"].get(REGISTRY.EMBEDDING, {}).get("state_registry", {})
        return vectors_from_state(state)


def _of_each_context(effects: Any, contexts: Sequence[str]) -> dict[str, Any]:
    if not isinstance(effects, Mapping) or set(effects) != set(contexts):
        got = f"a dictionary of {sorted(map(str, effects))[:10]}" if isinstance(effects, Mapping) else type(effects).__name__
        msg = f"A model with contexts needs a dictionary with a table of predictions for each of {list(contexts)}, got {got}."
        raise ValueError(msg)
    return {context: effects[context] for context in contexts}


def _stacked(before: pd.DataFrame | None, new: pd.DataFrame, rule: NameRule) -> pd.DataFrame:
    if before is None:
        return new
    columns = None if isinstance(before.columns, pd.RangeIndex) else list(before.columns)
    new = aligned_vectors(new, columns, before.shape[1], "`embeddings`").set_axis(before.columns, axis=1)
    keys = {rule.key(name) for name in new.index}
    return pd.concat([before[[rule.key(name) not in keys for name in before.index]], new])
