"""Inference: numpy and scipy. Is handed arrays; knows no model, no AnnData, no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbdiffusion.inference._confidence import FIRST, Confidence, confidence_features, fit_confidence
from dbdiffusion.inference._discoveries import (
    DiscoveryRule,
    discoveries_of,
    fit_discoveries,
    left_out_lists,
)
from dbdiffusion.inference._estimate import (
    Estimate,
    NullShare,
    adjust_p_values,
    check_confidence,
    effects_table,
    paper_estimate,
    welch_contrast,
)
from dbdiffusion.inference._evidence import (
    PERMUTATIONS,
    Evidence,
    check_left_out,
    left_out_evidence,
    placebo_evidence,
    squared_errors,
)
from dbdiffusion.inference._exports import to_cell_eval, to_pertpy
from dbdiffusion.inference._interactions import Interactions, interactions, unseen_along
from dbdiffusion.inference._projection import (
    ALTERNATIVES,
    LeftOutRules,
    Projection,
    check_alternative,
    control_spread,
    hits,
    left_out_rules,
    observed_along,
    project,
)
from dbdiffusion.inference._rectifier import (
    MIN_REFERENCES,
    ErrorLaw,
    Rectifier,
    VariancePrior,
    fit_error_law,
    fit_rectifier,
    fit_variance_prior,
    leave_one_out,
)
from dbdiffusion.inference._shrinkage import Prior, own_scales, shrunk_contrast, shrunk_null
from dbdiffusion.inference._signs import (
    SignLaw,
    SignLaws,
    Signs,
    fit_sign_law,
    left_out_lfsr,
    left_out_signs,
    signs_of,
    supports,
)
from dbdiffusion.inference._tuning import References

if TYPE_CHECKING:
    from dbdiffusion.inference._hierarchical import HierarchicalRectifier, fit_hierarchical

__all__ = [
    "ALTERNATIVES",
    "FIRST",
    "MIN_REFERENCES",
    "PERMUTATIONS",
    "Confidence",
    "DiscoveryRule",
    "ErrorLaw",
    "Estimate",
    "Evidence",
    "HierarchicalRectifier",
    "Interactions",
    "LeftOutRules",
    "NullShare",
    "Prior",
    "Projection",
    "Rectifier",
    "References",
    "SignLaw",
    "SignLaws",
    "Signs",
    "VariancePrior",
    "adjust_p_values",
    "check_alternative",
    "check_confidence",
    "check_left_out",
    "confidence_features",
    "control_spread",
    "discoveries_of",
    "effects_table",
    "fit_confidence",
    "fit_discoveries",
    "fit_error_law",
    "fit_hierarchical",
    "fit_rectifier",
    "fit_sign_law",
    "fit_variance_prior",
    "hits",
    "interactions",
    "leave_one_out",
    "left_out_evidence",
    "left_out_lfsr",
    "left_out_lists",
    "left_out_rules",
    "left_out_signs",
    "observed_along",
    "own_scales",
    "paper_estimate",
    "placebo_evidence",
    "project",
    "shrunk_contrast",
    "shrunk_null",
    "signs_of",
    "squared_errors",
    "supports",
    "to_cell_eval",
    "to_pertpy",
    "unseen_along",
    "welch_contrast",
]


def __getattr__(name: str) -> Any:
    """The hierarchical model, loaded when it is asked for: it is the only part that needs Pyro, and with it torch."""
    if name in ("HierarchicalRectifier", "fit_hierarchical"):
        from dbdiffusion.inference import _hierarchical

        return getattr(_hierarchical, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
