"""Small screens and models that train in seconds."""

import warnings

import scvi

from dbdiffusion import DBDiffusion
from dbdiffusion.data import simulate_screen

QUIET = {"enable_progress_bar": False}


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
