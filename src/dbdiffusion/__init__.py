"""Calibrated inference for perturbations nobody measured: latent diffusion and prediction-powered inference on scvi."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbdiffusion import data, metrics, plotting
    from dbdiffusion._words import ScreenWarning
    from dbdiffusion.inference import to_cell_eval, to_pertpy
    from dbdiffusion.model import DBDiffusion
    from dbdiffusion.predict import compare, rectify
    from dbdiffusion.simulate import simulate_screen
    from dbdiffusion.storage import to_anndata

__version__ = "0.2.0"
__all__ = [
    "DBDiffusion",
    "ScreenWarning",
    "compare",
    "data",
    "metrics",
    "plotting",
    "rectify",
    "simulate_screen",
    "to_anndata",
    "to_cell_eval",
    "to_pertpy",
]
_HOMES = {
    "DBDiffusion": "model",
    "ScreenWarning": "_words",
    "compare": "predict",
    "rectify": "predict",
    "simulate_screen": "simulate",
    "to_anndata": "storage",
    "to_cell_eval": "inference",
    "to_pertpy": "inference",
}


def __getattr__(name: str) -> Any:
    """What is asked for, loaded then: torch and scvi-tools take seconds, and a room of numpy or ``--help`` needs neither."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    home = importlib.import_module(f"{__name__}.{_HOMES.get(name, name)}")
    value = getattr(home, name) if name in _HOMES else home
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
