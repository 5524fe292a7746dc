"""Small screens and models that train in seconds."""

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import scvi

from dbdiffusion import DBDiffusion
from dbdiffusion.data import simulate_screen
from dbdiffusion.screen import ObservedEffects, Screen

QUIET = {"enable_progress_bar": False}
CONTEXTS = ("early", "late")
FATES = ("other counts", "half removed", "added")


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


def screen_in_two_contexts(**changes):
    """The same perturbations twice; late, the genes are dealt out anew, so that effects differ."""
    first, second = tiny_screen(**changes), tiny_screen(**changes)
    order = np.random.default_rng(5).permutation(first.n_vars)
    second.X = second.X[:, order]
    second.obs_names = second.obs_names + "late"
    both = ad.concat([first, second])
    both.obs["time"] = np.repeat(CONTEXTS, [first.n_obs, second.n_obs])
    return both


def spoiled(screen, name, fate):
    """A screen in which the cells of one perturbation, and of no other, have met a fate."""
    own = (screen.obs["perturbation"] == name).to_numpy()
    rng = np.random.default_rng(0)
    if fate == "half removed":
        return screen[~own | (np.cumsum(own) % 2 == 0)].copy()
    other = screen[own].copy() if fate == "added" else screen.copy()
    counts = sp.lil_matrix(other.X)
    counts[np.arange(other.n_obs) if fate == "added" else own] = rng.poisson(3, (own.sum(), other.n_vars))
    other.X = sp.csr_matrix(counts.astype(np.float32))
    if fate == "added":
        other.obs_names = other.obs_names + "added"
        other = ad.concat([screen, other])
    return other


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


def tiny_guides(screen, n_guides=2, seed=0):
    """Counts of guides that give the cells of a screen their perturbations: some guides a target, and a little leakage."""
    rng = np.random.default_rng(seed)
    cells = [name.split("+") for name in screen.obs["perturbation"].astype(str)]
    targets = sorted({target for targets in cells for target in targets})
    counts = rng.poisson(0.05, (len(cells), n_guides * len(targets)))
    for cell, own in enumerate(cells):
        for target in own:
            counts[cell, n_guides * targets.index(target) + rng.integers(n_guides)] += 20
    names = [f"{target}_{i}" for target in targets for i in range(n_guides)]
    var = pd.DataFrame({"target": np.repeat(targets, n_guides)}, index=names)
    return ad.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs=pd.DataFrame(index=screen.obs_names), var=var)


def observed_effects(effect):
    """Observed effects (K, G) with small, equal variances."""
    one, k = np.ones(effect.shape), len(effect)
    return ObservedEffects(effect, 0.01 * one, 0.002 * one, 20 * one, 80.0, one, np.full(k, 21))


def screen_of_effects(names, effect, genes, separator="+"):
    """A measured screen of known effects (K, G) and gene space, without cells."""
    return Screen(
        names=tuple(names),
        control="control",
        separator=separator,
        var_names=genes.names.to_numpy(),
        observed=observed_effects(effect),
        vectors=genes.vectors,
        library=np.ones(5),
        depth_per_library=1.0,
        covariates={},
    )
