from __future__ import annotations

import logging

import pytest
from hypothesis import settings
from tiny import tiny_model, tiny_screen, train_quickly

from dbdiffusion import DBDiffusion
from dbdiffusion.data import hold_out

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run slow tests too")


def pytest_configure(config: pytest.Config) -> None:
    settings.register_profile("few", max_examples=60, deadline=None)
    settings.register_profile("many", max_examples=1000, deadline=None)
    settings.load_profile("many" if config.getoption("--slow") else "few")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


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
