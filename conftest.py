"""What the examples in docstrings take for granted: a small screen and a trained model of it, see docs/api/index.md."""

from __future__ import annotations

import logging
import re
import sys
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
from _pytest.doctest import DoctestItem

if TYPE_CHECKING:
    from collections.abc import Iterator

SMALL = {"n_genes": 60, "n_perturbations": 13, "n_cells_per_perturbation": 25, "n_control_cells": 70, "n_modules": 4, "seed": 1}
TAKEN_FOR_GRANTED = re.compile(r"\b(model|adata|unseen)\b")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
_made: dict = {}


@pytest.fixture(autouse=True)
def no_figure_left() -> Iterator[None]:
    """pyplot keeps every figure until it is closed, and warns above twenty."""
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def granted(request: pytest.FixtureRequest, doctest_namespace: dict) -> Iterator[None]:
    """Made once, and only if an example asks for it; an example that changes the model changes a copy."""
    if not isinstance(request.node, DoctestItem):
        yield
        return
    mpl.use("agg")
    scvi_tools = logging.getLogger("scvi")  # it speaks on standard output
    level = scvi_tools.level
    scvi_tools.setLevel(logging.WARNING)  # also forgets what its loggers remember of earlier tests
    if any(TAKEN_FOR_GRANTED.search(example.source) for example in request.node.dtest.examples):
        doctest_namespace.update(_made or make())
    settings = sys.modules["scvi"].settings if "scvi" in sys.modules else SimpleNamespace(verbosity=level)
    verbosity, settings.verbosity = settings.verbosity, logging.WARNING  # no progress bars on standard output
    yield
    settings.verbosity = verbosity
    scvi_tools.setLevel(level)


def make() -> dict:
    import scvi

    from dbdiffusion import DBDiffusion, simulate_screen
    from dbdiffusion.data import hold_out

    screen = simulate_screen(**SMALL)
    unseen = list(screen.uns["true_effects"].index[:2])
    adata, _ = hold_out(screen, unseen)
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    scvi.settings.seed = 0
    model = DBDiffusion(adata, n_hidden=16, n_latent=5, n_embedding=6, n_diffusion_hidden=16, n_diffusion_blocks=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train(max_epochs=15, max_epochs_diffusion=15, accelerator="cpu", enable_progress_bar=False)
    _made.update(model=model, adata=adata, unseen=unseen, DBDiffusion=DBDiffusion)
    return _made
