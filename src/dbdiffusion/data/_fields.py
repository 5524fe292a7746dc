"""Registry fields: perturbation codes in obs, and a state-only table of a user's own perturbation vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import rich.table
from scvi.data.fields import BaseAnnDataField, CategoricalObsField

from dbdiffusion._keys import REGISTRY
from dbdiffusion.data._labels import canonical_labels, codes_of, labels_in, perturbations_in
from dbdiffusion.screen import NameRule, meant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


# A user's own vectors of perturbations or genes, checked, and aligned with those that are known.


def check_vectors(table: object, where: str, rule: NameRule | None = None) -> pd.DataFrame:
    """A user's vectors as a float64 frame, or a worded error.

    Parameters
    ----------
    table
        What the user gave.
    where
        It was given, for the messages.
    rule
        How names are read; None takes them as they are.

    Raises
    ------
    TypeError
        If it is no DataFrame.
    ValueError
        On an empty table, names or columns that are there twice, or values that are not finite numbers.

    Examples
    --------
    >>> check_vectors(pd.DataFrame({"v1": [1, 2]}, index=["A", "A"]), "uns['vectors']")
    Traceback (most recent call last):
    ValueError: uns['vectors'] has ['A', 'A'] more than once in its index, or names that mean the same; keep one of each.
    """
    if not isinstance(table, pd.DataFrame):
        msg = f"{where} must be a DataFrame (index = perturbations or genes, columns = dimensions), got {type(table).__name__}."
        raise TypeError(msg)
    if table.shape[0] == 0 or table.shape[1] == 0:
        msg = f"{where} is empty (shape {table.shape}); it needs a row per perturbation or gene and a column per dimension."
        raise ValueError(msg)
    index, columns = table.index.astype(str), pd.Index([str(column) for column in table.columns], dtype=object)
    keys = pd.Index([str(name if rule is None else rule.key(name)) for name in index])
    for labels, what in ((keys, index), (columns, columns)):
        if labels.has_duplicates:
            repeated = list(what[labels.duplicated(keep=False)][:3])
            place = "columns" if what is columns else "index"
            msg = f"{where} has {repeated!r} more than once in its {place}, or names that mean the same; keep one of each."
            raise ValueError(msg)
    numeric = table.set_axis(columns, axis=1).apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    bad = ~np.isfinite(numeric).all(axis=1)
    if bad.any():
        msg = f"{where} must hold finite numbers only, but {list(table.index[bad][:3])!r} has others. Fill or drop those rows."
        raise ValueError(msg)
    return pd.DataFrame(numeric, index=index if rule is None else [rule.clean(name) for name in index], columns=columns)


def aligned_vectors(brought: pd.DataFrame, columns: Sequence[str] | None, n_columns: int, where: str) -> pd.DataFrame:
    """Further vectors with the columns of those that are known, in their order.

    Parameters
    ----------
    brought
        As :func:`check_vectors` gives them.
    columns
        Known names; None where they were not stored, as before version 0.2: then columns must be as many.
    n_columns
        How many are known.
    where
        They were given, for the message.

    Raises
    ------
    ValueError
        If they are others.

    Examples
    --------
    >>> brought = pd.DataFrame([[1.0, 2.0]], index=["A"], columns=["y", "x"])
    >>> aligned_vectors(brought, ["x", "y"], 2, "here").to_numpy()
    array([[2., 1.]])
    """
    if columns is None and brought.shape[1] == n_columns:
        return brought
    if columns is None or set(columns) != set(brought.columns):
        names = "" if columns is None else f" {list(columns[:5])}"
        msg = (
            f"{where} must have the {n_columns} columns of the registered table{names}, got {brought.shape[1]}, "
            f"{list(brought.columns[:5])}. Columns are told by their names."
        )
        raise ValueError(msg)
    return brought[list(columns)]


class PerturbationField(CategoricalObsField):
    """Codes of ``obs[perturbation_key]``; the state also names control, the separator, and what has cells.

    Labels that mean the same perturbation get one code, see :class:`~dbdiffusion.embedding.NameRule`.

    Parameters
    ----------
    attr_key
        Column of ``obs``.
    control
        Category of the unperturbed cells.
    separator
        Between the parts of a combination.

    Examples
    --------
    Two spellings of one pair get one code:

    >>> import anndata
    >>> import pandas as pd
    >>> labels = ["control", "control", "A+B", "B+A"]
    >>> screen = anndata.AnnData(np.ones((4, 2)), obs=pd.DataFrame({"perturbation": labels}, index=list("wxyz")))
    >>> field = PerturbationField("perturbation", "control", "+")
    >>> field.register_field(screen)["categorical_mapping"].tolist()
    ['A+B', 'control']
    """

    CONTROL = "control"
    SEPARATOR = "combination_sep"
    WITH_CELLS = "with_cells"

    def __init__(self, attr_key: str, control: str, separator: str) -> None:
        super().__init__(REGISTRY.PERTURBATION, attr_key)
        self._extra = {self.CONTROL: control, self.SEPARATOR: separator}
        self.genes: pd.Index | None = None  # where they are not the var_names of what holds the column

    def register_field(self, adata: AnnData) -> dict:
        """Check the column, write the codes."""
        rule = self._rule(self._extra, adata)
        found = perturbations_in(adata.obs, self._original_attr_key, rule)
        names = sorted(set(found))
        return {**self._write_codes(adata, found, names), **self._extra, self.WITH_CELLS: names}

    def transfer_field(
        self, state_registry: dict, adata_target: AnnData, extend_categories: bool = False, **_kwargs: Any
    ) -> dict:
        """Write the codes of the source registry for other cells; new perturbations, if allowed, get codes after the old."""
        self.validate_field(adata_target)
        known = [str(name) for name in state_registry[self.CATEGORICAL_MAPPING_KEY]]
        kept = {key: state_registry[key] for key in self._extra}
        labels = labels_in(adata_target.obs, self._original_attr_key)
        found = canonical_labels(labels, self._rule(kept, adata_target), known)
        new = sorted(set(found).difference(known))
        if new and not extend_categories:
            msg = (
                f"Perturbation {new[0]!r} in obs[{self._original_attr_key!r}] was not registered.{meant(new[0], known)} New "
                "measured perturbations come in by `DBDiffusion.load_query_data`."
            )
            raise ValueError(msg)
        return {
            **self._write_codes(adata_target, found, [*known, *new]),
            **kept,
            self.WITH_CELLS: [*state_registry[self.WITH_CELLS], *new],
        }

    def _rule(self, state: dict, adata: AnnData) -> NameRule:
        genes = adata.var_names if self.genes is None else self.genes
        return NameRule(state[self.CONTROL], state[self.SEPARATOR], genes)

    def _write_codes(self, adata: AnnData, found: pd.Series, names: list[str]) -> dict:
        adata.obs[self.attr_key] = codes_of(found, names)
        return {self.CATEGORICAL_MAPPING_KEY: np.array(names, dtype=object), self.ORIGINAL_ATTR_KEY: self._original_attr_key}

    def view_state_registry(self, state_registry: dict) -> rich.table.Table | None:
        """The codes as scvi shows them, control marked."""
        table = super().view_state_registry(state_registry)
        if table is not None:
            table.caption = f"control: {state_registry[self.CONTROL]}"
        return table


class UserVectorsField(BaseAnnDataField):
    """A user's own perturbation vectors from ``uns``, kept in the state registry and never sent to the data loader.

    Parameters
    ----------
    attr_key
        Key of a DataFrame in ``uns``, or None.
    perturbation_key, control, separator
        Of :class:`PerturbationField`; some of its perturbations, or the genes, must be in the table's index.

    Examples
    --------
    Without a table there is nothing to register:

    >>> UserVectorsField(None, "perturbation", "control", "+").is_empty
    True
    """

    NAMES = "names"
    VECTORS = "vectors"
    COLUMNS = "columns"
    SOURCE = "source_key"

    def __init__(self, attr_key: str | None, perturbation_key: str, control: str, separator: str) -> None:
        self._attr_key = attr_key
        self._perturbation_key, self._control, self._separator = perturbation_key, control, separator

    registry_key = property(lambda self: REGISTRY.EMBEDDING)  # type: ignore[assignment]
    attr_name = property(lambda self: "uns")  # type: ignore[assignment]
    attr_key = property(lambda self: self._attr_key)  # type: ignore[assignment]
    is_empty = property(lambda self: self._attr_key is None)  # type: ignore[assignment]

    def get_data_registry(self) -> dict:
        """Nothing: the table has a row per perturbation, the data loader slices by cell."""
        return {}

    def validate_field(self, adata: AnnData) -> None:
        """Check that the table is there."""
        if self.attr_key not in adata.uns:
            msg = f"`embedding_key` {self.attr_key!r} is not in adata.uns, which has {sorted(adata.uns)}."
            raise KeyError(msg)

    def register_field(self, adata: AnnData) -> dict:
        """Copy the table into the state."""
        super().register_field(adata)
        rule = self._rule(adata)
        table = check_vectors(adata.uns[self.attr_key], f"adata.uns[{self.attr_key!r}]", rule)
        labels = set(adata.obs[self._perturbation_key].astype(str))
        known = {rule.key(label) for label in labels} | {(part,) for label in labels for part in rule.parts(label)}
        if not any(rule.key(name) in known or name in adata.var_names for name in table.index):
            msg = (
                f"The index of adata.uns[{self.attr_key!r}] must name perturbations or genes, but none of "
                f"{list(table.index[:3])!r}… is one. Is the table transposed, or in another nomenclature?"
            )
            raise ValueError(msg)
        columns = table.columns.to_numpy(dtype=str)
        names = table.index.to_numpy(dtype=str)
        return {self.NAMES: names, self.VECTORS: table.to_numpy(), self.COLUMNS: columns, self.SOURCE: self.attr_key}

    def transfer_field(
        self, state_registry: dict, adata_target: AnnData, extend_categories: bool = False, **_kwargs: Any
    ) -> dict:
        """The table of the source, and, if it may be extended, the rows that other cells bring; they need not bring any."""
        if not extend_categories or self.attr_key not in adata_target.uns:
            return dict(state_registry)
        where = f"adata.uns[{self.attr_key!r}]"
        rule = self._rule(adata_target)
        brought = check_vectors(adata_target.uns[self.attr_key], where, rule)
        known = np.asarray(state_registry[self.VECTORS])
        brought = aligned_vectors(brought, state_registry.get(self.COLUMNS), known.shape[1], where)
        keys = {rule.key(name) for name in state_registry[self.NAMES]}
        brought = brought[[rule.key(name) not in keys for name in brought.index]]
        names = np.concatenate([state_registry[self.NAMES], brought.index.to_numpy(dtype=str)])
        return {**state_registry, self.NAMES: names, self.VECTORS: np.concatenate([known, brought.to_numpy()])}

    def _rule(self, adata: AnnData) -> NameRule:
        return NameRule(self._control, self._separator, adata.var_names)

    def get_summary_stats(self, state_registry: dict) -> dict:
        """How many vectors."""
        return {"n_perturbation_vectors": len(state_registry.get(self.NAMES, ()))}

    def view_state_registry(self, state_registry: dict) -> rich.table.Table | None:
        """A line on the table."""
        if not state_registry:
            return None
        table = rich.table.Table(title=f"{self.registry_key} State Registry")
        table.add_column("Source Location", justify="center")
        table.add_column("Vectors", justify="center")
        table.add_column("Dimensions", justify="center")
        shape = np.shape(state_registry[self.VECTORS])
        table.add_row(f"adata.uns[{state_registry[self.SOURCE]!r}]", str(shape[0]), str(shape[1]))
        return table


def vectors_from_state(state_registry: dict) -> pd.DataFrame | None:
    """The user's vectors as a frame, or None where there are none.

    Examples
    --------
    >>> vectors_from_state({}) is None
    True
    """
    if not state_registry:
        return None
    vectors, names = state_registry[UserVectorsField.VECTORS], state_registry[UserVectorsField.NAMES]
    return pd.DataFrame(vectors, index=names, columns=state_registry.get(UserVectorsField.COLUMNS))
