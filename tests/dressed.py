"""Screens with a column for everything that can be registered, and models of them."""

import numpy as np
import scvi
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion

SETUP = {"batch_key": "batch", "labels_key": "lane", "size_factor_key": "depth"}


def dressed_screen(**changes):
    """A tiny screen with a column for everything that can be registered."""
    adata = tiny_screen(**{"n_perturbations": 4, **changes})
    adata.obs["lane"] = np.where(np.arange(adata.n_obs) % 2, "l1", "l2")
    adata.obs["donor"] = np.where(np.arange(adata.n_obs) % 3, "d1", "d2")
    adata.obs["phase"] = np.linspace(0, 1, adata.n_obs)
    adata.obs["depth"] = np.asarray(adata.X.sum(axis=1)).ravel()
    return adata


def fresh(adata=None, setup=None, **options):
    adata = dressed_screen() if adata is None else adata
    DBDiffusion.setup_anndata(adata, **({"batch_key": "batch"} if setup is None else setup))
    scvi.settings.seed = 0
    return tiny_model(adata, **options)


def briefly(model, **options):
    model.train(max_epochs=1, max_epochs_diffusion=1, **options, **QUIET)
    return model
