"""Registry fields: perturbation codes in obs, and a state-only table of a user's own perturbation vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import rich.table
from scvi.data.fields import BaseAnnDataField, CategoricalObsField

from dbdiffusion._keys import REGISTRY
from dbdiffusion.data._validate import check_perturbations, check_vectors

if TYPE_CHECKING:
    from anndata import AnnData


class PerturbationField(CategoricalObsField):
    """Codes of ``obs[perturbation_key]``; the state also names control, the separator, and what has cells.

    Parameters
    ----------
    attr_key
        Column of ``obs``.
    control
        Category of the unperturbed cells.
    separator
        Between the parts of a combination.
    """

    CONTROL = "control"
    SEPARATOR = "combination_sep"
    WITH_CELLS = "with_cells"

    def __init__(self, attr_key: str, control: str, separator: str) -> None:
        super().__init__(REGISTRY.PERTURBATION, attr_key)
        self._extra = {self.CONTROL: control, self.SEPARATOR: separator}

    def register_field(self, adata: AnnData) -> dict:
        """Check the column, write the codes."""
        check_perturbations(adata.obs, self._original_attr_key, self._extra[self.CONTROL])
        state = super().register_field(adata)
        present = set(adata.obs[self._original_attr_key].astype(str))
        names = [str(name) for name in state[self.CATEGORICAL_MAPPING_KEY] if str(name) in present]
        return {**state, **self._extra, self.WITH_CELLS: names}

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs: Any) -> dict:
        """Write the codes of the source registry for other cells."""
        state = super().transfer_field(state_registry, adata_target, **kwargs)
        return {**state, **{key: state_registry[key] for key in (*self._extra, self.WITH_CELLS)}}

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
    perturbation_key
        Column of ``obs``; some of its perturbations, or the genes, must be in the table's index.
    """

    NAMES = "names"
    VECTORS = "vectors"
    SOURCE = "source_key"

    def __init__(self, attr_key: str | None, perturbation_key: str) -> None:
        self._attr_key = attr_key
        self._perturbation_key = perturbation_key

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
        table = check_vectors(adata.uns[self.attr_key], f"adata.uns[{self.attr_key!r}]")
        known = set(adata.obs[self._perturbation_key].astype(str)) | set(adata.var_names)
        if not known.intersection(table.index):
            msg = (
                f"The index of adata.uns[{self.attr_key!r}] must name perturbations or genes, but none of "
                f"{list(table.index[:3])!r}… is one. Is the table transposed, or in another nomenclature?"
            )
            raise ValueError(msg)
        return {self.NAMES: table.index.to_numpy(dtype=str), self.VECTORS: table.to_numpy(), self.SOURCE: self.attr_key}

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **_kwargs: Any) -> dict:
        """The table of the source; other cells need not bring one."""
        return dict(state_registry)

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
    """The user's vectors as a frame, or None where there are none."""
    if not state_registry:
        return None
    return pd.DataFrame(state_registry[UserVectorsField.VECTORS], index=state_registry[UserVectorsField.NAMES])
