"""Registry fields for MuData: perturbations from a column or from counts of guides, and the user's vectors."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scvi.data.fields import BaseAnnDataField

from dbdiffusion.data._fields import PerturbationField, UserVectorsField
from dbdiffusion.data._guides import call_perturbations
from dbdiffusion.data._labels import labels_in, perturbations_in
from dbdiffusion.screen import NameRule

if TYPE_CHECKING:
    import rich.table
    from anndata import AnnData
    from mudata import MuData

CALLS = "_scvi_guide_calls"


@dataclass(frozen=True)
class GuideRule:
    """Where the counts of guides are and how they name cells; see :func:`~dbdiffusion.data.call_perturbations`.

    Examples
    --------
    >>> GuideRule("guides", target_key="gene", layer=None, min_counts=3, min_share=0.8).modality
    'guides'
    """

    modality: str
    target_key: str | None
    layer: str | None
    min_counts: int
    min_share: float


class MuDataPerturbationField(BaseAnnDataField):
    """:class:`PerturbationField` of a modality's column, of MuData's own, or of the calls that a rule makes of guides.

    Parameters
    ----------
    attr_key, control, separator
        Of :class:`PerturbationField`.
    mod_key
        Modality whose ``obs`` has the column; None means MuData's.
    rule
        Makes the calls; the column is then not read.
    rna
        Modality whose ``var_names`` are the genes.

    Examples
    --------
    >>> field = MuDataPerturbationField("perturbation", "control", "+", mod_key="rna", rule=None, rna="rna")
    >>> field.mod_key, field.is_empty
    ('rna', False)
    """

    def __init__(
        self, attr_key: str, control: str, separator: str, mod_key: str | None, rule: GuideRule | None, rna: str
    ) -> None:
        super().__init__()
        self._rule, self._control, self._separator, self._rna = rule, control, separator, rna
        self._mod_key = None if rule else mod_key
        self._field = PerturbationField(CALLS if rule else attr_key, control, separator)

    registry_key = property(lambda self: self._field.registry_key)  # type: ignore[assignment]
    attr_name = property(lambda self: self._field.attr_name)  # type: ignore[assignment]
    attr_key = property(lambda self: self._field.attr_key)  # type: ignore[assignment]
    mod_key = property(lambda self: self._mod_key)  # type: ignore[assignment]
    is_empty = property(lambda _self: False)  # type: ignore[assignment]
    adata_field = property(lambda self: self._field)

    def validate_field(self, mdata: MuData) -> None:
        """Check that the column is there."""
        self._field.validate_field(self._holder(mdata))

    def register_field(self, mdata: MuData) -> dict:
        """Make the calls, check them, write the codes."""
        return self._field.register_field(self._holder(mdata))

    def transfer_field(self, state_registry: dict, mdata_target: MuData, **kwargs: Any) -> dict:
        """Make the calls, write the codes of the source registry."""
        return self._field.transfer_field(state_registry, self._holder(mdata_target), **kwargs)

    def get_summary_stats(self, state_registry: dict) -> dict:
        """How many perturbations."""
        return self._field.get_summary_stats(state_registry)

    def view_state_registry(self, state_registry: dict) -> rich.table.Table | None:
        """The codes."""
        return self._field.view_state_registry(state_registry)

    def names(self, mdata: MuData) -> pd.Series:
        """The one name of the perturbation of every cell; made anew where a rule makes it. Nothing is written."""
        return perturbations_in(*self._column(mdata), self.name_rule(mdata))

    def labels(self, mdata: MuData) -> pd.Series:
        """The same as it is written."""
        return labels_in(*self._column(mdata))

    def name_rule(self, mdata: MuData) -> NameRule:
        """How labels are read."""
        return NameRule(self._control, self._separator, mdata.mod[self._rna].var_names)

    def _column(self, mdata: MuData) -> tuple[pd.DataFrame, str]:
        key = self._field._original_attr_key
        obs = self._holder(mdata).obs if self._rule is None else pd.DataFrame({key: self._calls(mdata, self._rule)})
        return obs, key

    def _holder(self, mdata: MuData) -> AnnData | MuData:
        self._field.genes = mdata.mod[self._rna].var_names
        if self._rule is not None:
            mdata.obs[CALLS] = self._calls(mdata, self._rule).to_numpy()
        return mdata if self._mod_key is None else mdata.mod[self._mod_key]

    def _calls(self, mdata: MuData, rule: GuideRule) -> pd.Series:
        calls = call_perturbations(
            mdata.mod[rule.modality],
            rule.target_key,
            self._control,
            self._separator,
            rule.layer,
            rule.min_counts,
            rule.min_share,
        )
        if calls.isna().any():
            msg = (
                f"No guide was called in {int(calls.isna().sum())} of {len(calls)} cells, so they have no perturbation. Ask "
                f"for less than `min_guide_counts` {rule.min_counts} and `min_guide_share` {rule.min_share:g}, or drop them: "
                f"`calls = dbdiffusion.data.call_perturbations(mdata[{rule.modality!r}], ...)`, then "
                "`mdata = mdata[calls.notna().to_numpy()].copy()`."
            )
            raise ValueError(msg)
        return calls


class MuDataUserVectorsField(UserVectorsField):
    """:class:`UserVectorsField` of a table in MuData's ``uns``.

    Parameters
    ----------
    attr_key
        Key of ``uns``, or None.
    perturbation_field
        Names the perturbations.
    rna
        Modality whose ``var_names`` are the genes.

    Examples
    --------
    >>> named = MuDataPerturbationField("perturbation", "control", "+", mod_key="rna", rule=None, rna="rna")
    >>> MuDataUserVectorsField(None, named, rna="rna").is_empty
    True
    """

    def __init__(self, attr_key: str | None, perturbation_field: MuDataPerturbationField, rna: str) -> None:
        super().__init__(attr_key, "perturbation", perturbation_field._control, perturbation_field._separator)
        self._perturbations, self._rna = perturbation_field, rna

    def _rule(self, data: Any) -> NameRule:
        return super()._rule(data.mod[self._rna] if hasattr(data, "mod") else data)

    def register_field(self, mdata: MuData) -> dict:
        """Copy the table into the state."""
        return super().register_field(self._seen_as_anndata(mdata))

    def _seen_as_anndata(self, mdata: MuData) -> Any:
        names = self._perturbations.names(mdata).astype(str).to_numpy()
        obs = pd.DataFrame({"perturbation": names})
        return SimpleNamespace(uns=mdata.uns, obs=obs, var_names=mdata.mod[self._rna].var_names)


def check_modalities(mdata: MuData, used: set[str]) -> None:
    """Raise unless the modalities exist and hold the same cells in the same order.

    Raises
    ------
    ValueError
        Otherwise.

    Examples
    --------
    >>> from mudata import MuData
    >>> check_modalities(MuData({"rna": adata.copy()}), {"rna", "guides"})
    Traceback (most recent call last):
    ValueError: Modality 'guides' is not in mdata, which has ['rna']. Name it in `modalities`.
    """
    absent = sorted(used.difference(mdata.mod))
    if absent:
        msg = f"Modality {absent[0]!r} is not in mdata, which has {list(mdata.mod)}. Name it in `modalities`."
        raise ValueError(msg)
    for name in sorted(used):
        if not np.array_equal(np.asarray(mdata.mod[name].obs_names), np.asarray(mdata.obs_names)):
            msg = (
                f"Modality {name!r} must hold the cells of mdata in its order. Keep the cells that all modalities have "
                "(`mudata.pp.intersect_obs`) and sort them alike."
            )
            raise ValueError(msg)
