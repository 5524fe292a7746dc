"""Which perturbations there are and where they lie: measured, unseen, added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbdiffusion.data import CellGroups, aligned_vectors, check_vectors
from dbdiffusion.embedding import ALL_STRATEGIES
from dbdiffusion.model._predictors import PredictorsMixin
from dbdiffusion.model._screen import check_has_counts
from dbdiffusion.predict import own_table
from dbdiffusion.screen import NameRule, listed_names, meant, one_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scvi.model import SCVI as _Base

    from dbdiffusion.model._screen import Screen
else:
    _Base = object


class PerturbationMixin(PredictorsMixin):
    """How perturbations are called and placed, and which were added."""

    added_perturbations_: list[str]
    added_vectors_: pd.DataFrame | None
    own_predictors_: dict[str, Any] | None

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
        if not isinstance(name, str) or name not in known:
            msg = f"No predictor {name!r} was added, only {sorted(known)}.{meant(str(name), known)}"
            raise KeyError(msg)
        self.own_predictors_ = {key: table for key, table in known.items() if key != name} or None
        self._forget_predictors()


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


# How many cells an effect rests on, by target.


class TargetCellsMixin(_Base):
    """``target_cells``."""

    contexts: tuple[str, ...]
    is_diffusion_trained_: bool

    def target_cells(self, targets: str | Sequence[str] | None = None) -> pd.DataFrame:
        """Cells of every target, and how many of them its effect rests on. Needs no training.

        Cells without counts say nothing, and cells in batches (of their context) without control cells have nothing to be
        compared with, so neither enter an effect.

        Parameters
        ----------
        targets
            Names; None means every registered perturbation but control.

        Returns
        -------
        DataFrame
            One row a target: ``target, n_cells, n_cells_used``; with contexts one a target and context, and a column
            ``context``. What was not measured has no cells. ``n_cells`` is missing for models saved by version 0.1.

        Raises
        ------
        ValueError
            If stage two is not trained and there are no counts.

        Examples
        --------
        >>> from dbdiffusion import DBDiffusion, simulate_screen
        >>> adata = simulate_screen(n_genes=40, n_perturbations=6, n_cells_per_perturbation=20, n_control_cells=40)
        >>> DBDiffusion.setup_anndata(adata)
        >>> table = DBDiffusion(adata, n_folds=2).target_cells()
        >>> bool((table["n_cells"] == table["n_cells_used"]).all())
        True
        """
        names = list(dict.fromkeys(self._canonical(self.perturbation_names if targets is None else listed_names(targets))))
        tables = []
        for context, known in self._cells_by_context():
            keys = {self._name_rule().key(name): name for name in known.index}
            rows = known.reindex([keys.get(self._name_rule().key(name), name) for name in names]).set_axis(names)
            rows.loc[~rows["n_cells_used"].notna(), :] = 0
            table = rows.astype("Int64").rename_axis("target").reset_index()
            tables.append(table if context is None else table.assign(context=context))
        return pd.concat(tables, ignore_index=True)

    def _cells_by_context(self) -> Iterator[tuple[str | None, pd.DataFrame]]:
        """Contexts, or None, and the cells of what was measured there."""
        contexts = self.contexts or (None,)
        if self.is_diffusion_trained_:
            for context in contexts:
                yield context, _table_of(self._screen() if context is None else self.predictor(context).screen)
            return
        check_has_counts(self.adata)
        self.adata_manager.validate(whole=True)
        groups = CellGroups(self.adata_manager)
        for context in contexts:
            yield context, groups.table(context)


def _table_of(screen: Screen) -> pd.DataFrame:
    n_cells = np.full(len(screen.names), np.nan) if screen.n_cells is None else screen.n_cells
    return pd.DataFrame({"n_cells": n_cells, "n_cells_used": screen.observed.n_cells}, index=list(screen.names))
