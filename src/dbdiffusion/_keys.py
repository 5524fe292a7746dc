"""Names of registry entries and output columns, in one place."""

from __future__ import annotations

from typing import NamedTuple


class _RegistryKeys(NamedTuple):
    PERTURBATION: str = "perturbation"
    EMBEDDING: str = "perturbation_embedding"
    CONTEXT: str = "perturbation_context"


REGISTRY = _RegistryKeys()
BATCH = "batch"  # scvi-tools' key of the batch, for rooms that do not import it

EFFECT_COLUMNS = (
    "target",
    "variable",
    "effect",
    "log_fc",
    "se",
    "df",
    "ci_low",
    "ci_high",
    "statistic",
    "p_value",
    "adj_p_value",
    "mean_target",
    "mean_control",
    "lam",
    "tau",
    "n_reference",
    "status",
    "contrast",
    "lfsr",
    "n_expressing",
    "error_rate",
)
