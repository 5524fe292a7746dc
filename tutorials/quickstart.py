# %% [markdown]
# # Predict perturbations that nobody measured
#
# A small simulated screen, whose true effects are known. Two perturbations are hidden, predicted from the others, and
# compared with the truth. Run it with `python tutorials/quickstart.py`; the numbers are those of a toy, not of a study.

# %%
import logging
import warnings

import numpy as np
import pandas as pd
import scvi

from dbdiffusion import DBDiffusion, simulate_screen
from dbdiffusion.data import hold_out
from dbdiffusion.metrics import coverage, mean_squared_error, pearson, two_sided_pit

# %% [markdown]
# ## A screen
#
# Raw counts in `X`, the perturbation of every cell in `obs["perturbation"]`, unperturbed cells called `"control"`.
# `uns["true_effects"]` is what only a simulation can give: the effects without sampling noise.


# %%
def make_screen(n_hidden=2, seed=0):
    screen = simulate_screen(
        n_genes=150, n_perturbations=16, n_cells_per_perturbation=40, n_control_cells=150, n_modules=5, seed=seed
    )
    names = screen.uns["true_effects"].index
    hidden = sorted(np.random.default_rng(seed).choice(names, n_hidden, replace=False))
    measured, _ = hold_out(screen, hidden)
    return measured, hidden, screen.uns["true_effects"]


# %% [markdown]
# ## A model
#
# Two stages: a variational autoencoder of the counts, then a diffusion of its latent space. Epochs are few, so that this
# is quick; leave them out to have them chosen by the number of cells.


# %%
def fit(measured, seed=0):
    scvi.settings.seed = seed
    DBDiffusion.setup_anndata(measured, batch_key="batch")
    model = DBDiffusion(
        measured, n_hidden=32, n_latent=8, n_embedding=8, n_diffusion_hidden=32, n_diffusion_blocks=2, n_folds=4
    )
    quiet = {"enable_progress_bar": False}
    model.train(max_epochs=80, max_epochs_diffusion=100, accelerator="cpu", diffusion_kwargs={"batch_size": 128}, **quiet)
    model.cross_fit(max_epochs=100, batch_size=128, accelerator="cpu", seed=seed)
    return model


# %% [markdown]
# ## Was the prediction right?
#
# The perturbed gene itself is left out: its own effect is not predicted by others. `covered` asks whether the 95 % interval
# holds the true effect; with two targets it is a glimpse, not a check of calibration.


# %%
def compare(model, effects, truth):
    rows = {}
    for target, table in effects.groupby("target", sort=False):
        others = (table["variable"] != target).to_numpy()
        true = truth.loc[target, table["variable"]].to_numpy()[others]
        predicted = table["effect"].to_numpy()[others]
        pit = two_sided_pit(predicted - true, table["se"].to_numpy()[others], table["df"].to_numpy()[others])
        errors = {
            name: mean_squared_error(effect[None, others], true[None])[0]
            for name, effect in {"model": table["effect"].to_numpy(), **model.baseline_effects(target)}.items()
        }
        rows[target] = {
            "pearson": pearson(predicted[None], true[None])[0],
            **{f"mse_{name}": error for name, error in errors.items()},
            "covered": coverage(pit[None], levels=(0.95,))[0.95][0],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


# %%
def main():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")

    measured, hidden, truth = make_screen()
    print(f"{measured.n_obs} cells, {measured.n_vars} genes; hidden perturbations: {', '.join(hidden)}\n")

    model = fit(measured)
    placement = model.embedding_scores()
    print("How well each strategy places a perturbation that was left out (mse over that of the mean):")
    print(placement.round(3).to_string(), "\n")

    cells = model.generate(hidden, n_cells=100)
    print(f"Generated {cells.n_obs} cells of {cells.n_vars} genes.\n")

    effects = model.predict_effects(hidden)
    columns = ["variable", "effect", "ci_low", "ci_high", "p_value", "adj_p_value", "status"]
    print(f"Genes with the smallest p-values, {hidden[0]}:")
    first = effects[effects["target"] == hidden[0]]
    print(first.nsmallest(5, "p_value")[columns].round(3).to_string(index=False), "\n")

    scores = compare(model, effects, truth)
    print("Predictions against the true effects (squared errors beside those of simple baselines):")
    print(scores.round(4).to_string())
    return {"hidden": hidden, "placement": placement, "cells": cells, "effects": effects, "scores": scores}


if __name__ == "__main__":
    main()
