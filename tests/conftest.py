from __future__ import annotations

import logging
import warnings

import pytest
import scvi

from dbdiffusion import DBDiffusion
from dbdiffusion.data import hold_out, simulate_screen

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
QUIET = {"enable_progress_bar": False}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run slow tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


def tiny_screen(**changes):
    options = {
        "n_genes": 60,
        "n_perturbations": 13,
        "n_cells_per_perturbation": 25,
        "n_control_cells": 70,
        "n_modules": 4,
        "seed": 1,
    }
    return simulate_screen(**{**options, **changes})


def tiny_model(adata, **options):
    return DBDiffusion(
        adata,
        **{"n_hidden": 16, "n_latent": 5, "n_embedding": 6, "n_diffusion_hidden": 16, "n_diffusion_blocks": 1, "n_folds": 3}
        | options,
    )


def train_quickly(model, vae_epochs=15, diffusion_epochs=15):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scvi.settings.seed = 0
        model.train(
            max_epochs=vae_epochs,
            max_epochs_diffusion=diffusion_epochs,
            vae_kwargs={"batch_size": 64},
            diffusion_kwargs={"batch_size": 64},
            **QUIET,
        )
        model.cross_fit(max_epochs=3, batch_size=64)
    return model


@pytest.fixture(scope="session")
def screen():
    return tiny_screen()


@pytest.fixture(scope="session")
def unseen(screen):
    return list(screen.uns["true_effects"].index[:2])


@pytest.fixture(scope="session")
def trained(screen, unseen):
    """A model trained on all but two perturbations; tests must not change it."""
    adata, _ = hold_out(screen, unseen)
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    return train_quickly(tiny_model(adata))
