"""Golden answers: ``python tests/model/golden/make.py [weights]``.

With ``weights`` it trains one tiny model of each kind anew. Without, it keeps the weights and writes what they answer now: do
so only where a change of answers is meant, and say in the commit which and why.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tiny import QUIET, screen_in_two_contexts, tiny_model, tiny_screen  # noqa: E402

from dbdiffusion import DBDiffusion  # noqa: E402

SMALL = {"n_genes": 23, "n_perturbations": 12, "n_cells_per_perturbation": 14, "n_control_cells": 40}
SIZES = {"n_hidden": 8, "n_latent": 3, "n_embedding": 4, "n_diffusion_hidden": 8, "n_folds": 2}
HOW = {"n_cells": 32, "seed": 3}
COLUMNS = ("effect", "se", "p_value", "adj_p_value", "lam")


def plain():
    adata = tiny_screen(**SMALL)
    DBDiffusion.setup_anndata(adata)
    return adata


def batches():
    adata = tiny_screen(**SMALL, n_batches=2)
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    return adata


def contexts():
    adata = screen_in_two_contexts(**SMALL)
    DBDiffusion.setup_anndata(adata, context_key="time")
    return adata


def pairs():
    adata = tiny_screen(**SMALL, n_combinations=12)
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    return adata


def vectors():
    adata = tiny_screen(**SMALL)
    table = np.random.default_rng(3).standard_normal((adata.n_vars, 4))
    adata.uns["v"] = pd.DataFrame(table, index=adata.var_names, columns=list("abcd"))
    DBDiffusion.setup_anndata(adata, batch_key="batch", embedding_key="v")
    return adata


KINDS = {kind.__name__: kind for kind in (plain, batches, contexts, pairs, vectors)}


def answers(model: DBDiffusion) -> dict[str, list[float]]:
    """What a model says, as lists of numbers."""
    names = model.perturbation_names
    unseen = [str(gene) for gene in model.adata.var_names if gene not in names][:2]
    targets = [*unseen, names[0], *([f"{unseen[0]}+{unseen[1]}"] if any("+" in name for name in names) else [])]
    tables = {
        "effects": model.predict_effects(targets, **HOW),
        "shrunk": model.predict_effects(names[:2], shrink=True, **HOW),
        "paper": model.predict_effects(unseen, method="paper", **HOW),
        "in sample": model.predict_effects(unseen, cross_fitting="in_sample", **HOW),
        "observed": model.observed_effects(),
    }
    told = {
        f"{what} {column}": table[column].to_numpy(float)
        for what, table in tables.items()
        for column in COLUMNS
        if column in table
    }
    for context in model.contexts or [None]:
        view = model if context is None else model.in_context(context)
        calibration = view.calibration(n_cells=32)
        told[f"calibration {context}"] = calibration.table.select_dtypes("number").to_numpy()
        told[f"generated {context}"] = np.log1p(view.generate(unseen[0], n_cells=8, seed=5).to_df().to_numpy()).mean(axis=0)
    return {what: [float(f"{value:.7g}") for value in np.ravel(values)] for what, values in told.items()}


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    for kind, screen in KINDS.items():
        adata, folder = screen(), HERE / kind
        if "weights" in sys.argv:
            model = tiny_model(adata, **SIZES)
            model.train(max_epochs=6, max_epochs_diffusion=6, **QUIET)
            model.export_weights(folder, overwrite=True)
        model = DBDiffusion.load_weights(folder, adata)
        (HERE / f"{kind}.json").write_text(json.dumps(answers(model)))


if __name__ == "__main__":
    main()
