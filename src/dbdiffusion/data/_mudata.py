"""Registry fields for MuData: perturbations from a column or from counts of guides, and the user's vectors."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scvi.data.fields import BaseAnnDataField

from dbdiffusion.data._fields import PerturbationField, UserVectorsField
from dbdiffusion.data._labels import labels_in, perturbations_in
from dbdiffusion.screen import NameRule

if TYPE_CHECKING:
    import rich.table
    from anndata import AnnData
    from mudata import MuData


# From counts of guides to the perturbation of every cell.


def call_perturbations(
    guides: AnnData,
    target_key: str | None = "target",
    control: str = "control",
    combination_sep: str = "+",
    layer: str | None = None,
    min_counts: int = 3,
    min_share: float = 0.1,
) -> pd.Series:
    """Name the perturbation of every cell by its guides.

    1. A guide is called in a cell if it has at least ``min_counts`` counts there and at least ``min_share`` of all the
       counts of guides in that cell (the share removes what leaks in from other cells).
    2. Guides of one target count once. A guide that targets control is silent beside one that targets something.
    3. The cell gets its targets in alphabetical order, joined by the separator: ``"A"``, ``"A+B"``; control if all its
       guides target control; NaN if no guide was called.

    Parameters
    ----------
    guides
        Cells by guides, counts.
    target_key
        Column of ``var`` that names the target of a guide; None means that the guides' own names are targets.
    control
        Target of non-targeting guides.
    combination_sep
        Joins targets.
    layer
        With the counts, if they are not in X.
    min_counts, min_share
        What a guide needs to be called.

    Returns
    -------
    Series
        Index = cells, named ``perturbation``.

    Raises
    ------
    KeyError
        If the column or the layer is missing.
    ValueError
        If counts are negative or not finite, or 0 and 1 where more are asked for, a target is missing or holds the separator,
        or a threshold is out of range.

    Examples
    --------
    >>> import anndata as ad, pandas as pd
    >>> guides = ad.AnnData(
    ...     np.array([[9.0, 0.0, 0.0], [0.0, 8.0, 7.0], [5.0, 0.0, 6.0], [0.0, 1.0, 0.0]]),
    ...     obs=pd.DataFrame(index=list("abcd")),
    ...     var=pd.DataFrame({"target": ["control", "MYC", "GATA1"]}, index=["nt", "m", "g"]),
    ... )
    >>> call_perturbations(guides).tolist()
    ['control', 'GATA1+MYC', 'GATA1', nan]
    """
    _check_thresholds(min_counts, min_share)
    targets = _targets(guides, target_key, combination_sep)
    counts = _counts(guides, layer)
    totals = np.asarray(counts.sum(axis=1)).ravel()
    called = counts.tocoo()
    _check_reached(called.data, min_counts)
    kept = (called.data >= min_counts) & (called.data >= min_share * totals[called.row])
    names: list[set[str]] = [set() for _ in range(guides.n_obs)]
    for cell, guide in zip(called.row[kept], called.col[kept], strict=True):
        names[cell].add(targets[guide])
    calls = [combination_sep.join(sorted(found - {control}) or sorted(found)) if found else np.nan for found in names]
    return pd.Series(calls, index=guides.obs_names, dtype=object, name="perturbation")


def _targets(guides: AnnData, target_key: str | None, separator: str) -> list[str]:
    if target_key is None:
        column = pd.Series(guides.var_names, index=guides.var_names)
    elif target_key in guides.var:
        column = guides.var[target_key]
    else:
        msg = (
            f"`guide_target_key` {target_key!r} is not in the guides' var, which has {sorted(map(str, guides.var.columns))}. "
            "Name the column with the target of every guide, or give None where the guides' names are targets."
        )
        raise KeyError(msg)
    missing = column.isna() | (column.astype(str).str.strip() == "")
    if missing.any():
        msg = f"Every guide needs a target, but {list(column.index[missing][:3])} have none. Non-targeting ones target control."
        raise ValueError(msg)
    targets = [str(target) for target in column]
    joined = [target for target in targets if separator in target]
    if joined:
        msg = f"Target {joined[0]!r} holds the separator {separator!r} of combinations; choose another `combination_sep`."
        raise ValueError(msg)
    return targets


def _counts(guides: AnnData, layer: str | None) -> sp.csr_matrix:
    if layer is not None and layer not in guides.layers:
        known = sorted(name for name in guides.layers if name is not None)
        msg = f"`guide_layer` {layer!r} is not in the guides' layers, which has {known}."
        raise KeyError(msg)
    values = guides.X if layer is None else guides.layers[layer]
    if values is None or (not np.issubdtype(values.dtype, np.number) and values.dtype != bool):
        where = "X" if layer is None else f"layer {layer!r}"
        msg = f"The guides' {where} must hold numbers, got {getattr(values, 'dtype', None)}."
        raise ValueError(msg)
    counts = sp.csr_matrix(values, dtype=np.float64)
    counts.sum_duplicates()
    if not np.isfinite(counts.data).all() or (counts.data < 0).any():
        msg = "Counts of guides must be finite and not negative."
        raise ValueError(msg)
    return counts


def _check_reached(values: np.ndarray, min_counts: int) -> None:
    if min_counts > 1 and values.max(initial=0) == 1:
        msg = (
            f"The guides are a matrix of 0 and 1, which assigns guides to cells, so none has `min_guide_counts` {min_counts} "
            "counts. Give `min_guide_counts=1` (in `call_perturbations`, `min_counts=1`)."
        )
        raise ValueError(msg)


def _check_thresholds(min_counts: int, min_share: float) -> None:
    for name, value in (("min_guide_counts", min_counts), ("min_guide_share", min_share)):
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            msg = f"`{name}` must be a number, got {value!r} ({type(value).__name__})."
            raise TypeError(msg)
    if not min_counts >= 1:
        msg = f"`min_guide_counts` must be at least 1, got {min_counts!r}."
        raise ValueError(msg)
    if not 0 <= min_share <= 1:
        msg = f"`min_guide_share` must lie between 0 and 1, got {min_share!r}."
        raise ValueError(msg)


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
