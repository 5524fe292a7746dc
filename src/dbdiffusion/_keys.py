"""Names of registry entries, output columns and of what tables say of contexts, in one place."""

from __future__ import annotations

from typing import Any, NamedTuple


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

# What the attrs of a table say of one context, and its name where a table holds several: there it is said by context.
OF_A_CONTEXT = {
    "weights": "weights",
    "told_apart": "told_apart",
    "lists": "lists",
    "single": "single",
    "combination": "combination",
    "rectifier_mean": "rectifier_means",
}


def said_of(attrs: dict[str, Any], context: str) -> dict[str, Any]:
    """What the attrs of a table say of a context, as a table of that context alone says it.

    Examples
    --------
    >>> attrs = {"context": ["early", "late"], "told_apart": {"early": {"A": True}, "late": {"A": False}}}
    >>> said_of(attrs, "late")["told_apart"]
    {'A': False}
    """
    if not isinstance(attrs.get("context"), list):
        return attrs
    of_one = {said: attrs[of_all].get(context, {}) for said, of_all in OF_A_CONTEXT.items() if of_all in attrs}
    return {**attrs, **of_one}
