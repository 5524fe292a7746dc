"""Do generated cells of measured perturbations look like cells that the model never saw?

    python benchmarks/generation_fidelity.py

A fifth of the cells of every perturbation is set apart. Effects: correlation of generated with set-apart observed effects,
beside that of a replicate (the effects observed in the training cells) and the ceiling that the noise of the set-apart cells
allows (the true effects). Cells: energy distance (on 30 principal components of the training cells' log1p CP10K) of generated
to set-apart cells, of two random halves of the set-apart cells, and of control cells to set-apart cells; `energy_ratio` is
that of generated over that of training cells to set-apart cells, equal numbers of all, self pairs included. `auc` is a
classifier two-sample test: cross-validated logistic regression on the components, of generated against set-apart cells, equal
numbers; .5 is perfect. `gene_correlation` compares the gene-gene correlations of the 100 most variable genes over all set-
apart and as many generated cells; its ceiling is that of set-apart and training cells.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _results import write
from _screens import seeds_of, simulated, trained, training_arguments
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dbdiffusion import DBDiffusion
from dbdiffusion.metrics import energy_distance, pearson
from dbdiffusion.screen import log1p_cp10k

if TYPE_CHECKING:
    import argparse


def log_expression(counts) -> np.ndarray:
    library = np.asarray(counts.sum(axis=1)).ravel()
    return log1p_cp10k(counts, library).toarray()


def trial(alignment: float, seed: int, options: argparse.Namespace) -> list[dict]:
    screen = simulated(alignment, 60, seed, n_cells_per_perturbation=125)
    rng = np.random.default_rng(seed)
    apart = np.zeros(screen.train.n_obs, dtype=bool)
    for rows in screen.train.obs.groupby("perturbation", observed=True).indices.values():
        apart[rng.choice(rows, len(rows) // 5, replace=False)] = True
    train, test = screen.train[~apart].copy(), screen.train[apart].copy()
    model = trained(train, screen, seed, options)
    references = model.reference_predictions("in_sample", seed=seed)
    generated = references.pivot(index="target", columns="variable", values="generated")
    seen = references.pivot(index="target", columns="variable", values="observed")
    DBDiffusion.setup_anndata(test, **screen.setup)
    observed = model.observed_effects(test).pivot(index="target", columns="variable", values="effect")
    names = list(observed.index)
    truth = screen.reference.loc[names, observed.columns].to_numpy()
    scores = pd.DataFrame(
        {
            "pearson_generated": pearson(generated.loc[names, observed.columns].to_numpy(), observed.to_numpy()),
            "pearson_observed_in_training": pearson(seen.loc[names, observed.columns].to_numpy(), observed.to_numpy()),
            "ceiling": pearson(truth, observed.to_numpy()),
            "pearson_generated_truth": pearson(generated.loc[names, observed.columns].to_numpy(), truth),
            "pearson_observed_truth": pearson(seen.loc[names, observed.columns].to_numpy(), truth),
        },
        index=names,
    )
    axes = PCA(30, random_state=0).fit(log_expression(train.X[rng.choice(train.n_obs, 3000, replace=False)]))
    together = all_cells_like(model, train, test, names, seed, axes)
    rows = []
    for name, row in scores.to_dict(orient="index").items():
        alike = cells_like(model, train, test, name, seed, axes)
        rows.append({"seed": seed, "alignment": alignment, "target": name, **row, **alike, **together})
    return rows


def two_sample_auc(first: np.ndarray, second: np.ndarray, seed: int) -> float:
    """How well logistic regression tells two samples apart on cells it was not fitted to: .5 is not at all."""
    labels = np.repeat([0, 1], [len(first), len(second)])
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    chance = cross_val_predict(classifier, np.vstack([first, second]), labels, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(labels, chance))


def all_cells_like(model: DBDiffusion, train, test, names: list[str], seed: int, axes: PCA) -> dict:
    """Set-apart cells of all perturbations together against as many generated ones, and against as many training ones."""
    rng = np.random.default_rng(seed)
    real, generated, seen = [], [], []
    for i, name in enumerate(names):  # each with noise of its own, which perturbations otherwise share
        cells = test.X[(test.obs["perturbation"] == name).to_numpy()]
        rows = np.flatnonzero(train.obs["perturbation"] == name)
        real.append(log_expression(cells))
        generated.append(log_expression(model.generate(name, n_cells=len(real[-1]), seed=len(names) * seed + i).X))
        seen.append(log_expression(train.X[rng.choice(rows, len(real[-1]), replace=False)]))
    real, generated, seen = (np.vstack(blocks) for blocks in (real, generated, seen))
    variable = np.argsort(-real.var(axis=0))[:100]
    pairs = np.triu_indices(len(variable), k=1)
    among_genes = [np.corrcoef(cells[:, variable].T)[pairs] for cells in (real, generated, seen)]
    return {
        "auc_pooled": two_sample_auc(axes.transform(generated), axes.transform(real), seed),
        "auc_pooled_training": two_sample_auc(axes.transform(seen), axes.transform(real), seed),
        "gene_correlation": float(np.corrcoef(among_genes[0], among_genes[1])[0, 1]),
        "gene_correlation_ceiling": float(np.corrcoef(among_genes[0], among_genes[2])[0, 1]),
    }


def cells_like(model: DBDiffusion, train, test, name: str, seed: int, axes: PCA) -> dict:
    real = test[(test.obs["perturbation"] == name).to_numpy()]
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(train.obs["perturbation"] == name)
    seen = axes.transform(log_expression(train.X[rng.choice(rows, real.n_obs, replace=False)]))
    cells = model.generate(name, n_cells=4 * real.n_obs, seed=seed)
    x, y = log_expression(real.X), log_expression(cells.X)
    a, b = axes.transform(x), axes.transform(y)
    halves = np.random.default_rng(seed).permutation(len(a))
    first, second = a[halves[::2]], a[halves[1::2]]
    expressed = x.mean(axis=0) > 0.1
    same_number = b[: len(a)]
    return {
        "energy_ratio": energy_distance(a, same_number, self_pairs=True) / energy_distance(a, seen, self_pairs=True),
        "auc": two_sample_auc(same_number, a, seed),
        "auc_training": two_sample_auc(seen, a, seed),
        "energy_generated": energy_distance(a, b),
        "energy_split_half": energy_distance(first, second),
        "energy_control": energy_distance(a, axes.transform(log_expression(test[test.obs["perturbation"] == "control"].X))),
        "library_ratio": float(cells.X.sum() / cells.n_obs / (real.X.sum() / real.n_obs)),
        "zero_fraction_difference": float((y == 0).mean() - (x == 0).mean()),
        "variance_ratio": float(np.median(y[:, expressed].var(axis=0) / x[:, expressed].var(axis=0))),
    }


def main() -> None:
    parser = training_arguments(__doc__)
    parser.add_argument("--alignment", type=float, default=1.0)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        rows += trial(options.alignment, seed, options)
        print(pd.DataFrame(rows).drop(columns="target").median(numeric_only=True).round(3).to_string(), flush=True)
    print("written:", write("generation_fidelity", rows, options).name)


if __name__ == "__main__":
    main()
