"""Do generated cells of measured perturbations look like cells that the model never saw?

    python benchmarks/generation_fidelity.py --seeds 1

A fifth of the cells of every perturbation is set apart. Effects: correlation of generated with set-apart observed effects,
against the ceiling that the noise of the set-apart cells allows. Cells: energy distance (on 30 principal components of the
training cells' log1p CP10K) of generated to set-apart cells, of two random halves of the set-apart cells, and of control cells
to set-apart cells.
"""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pandas as pd
import scvi
from _screens import arguments, simulated, write
from sklearn.decomposition import PCA

from dbdiffusion import DBDiffusion
from dbdiffusion.embedding import log1p_cp10k
from dbdiffusion.metrics import energy_distance, pearson


def log_expression(counts) -> np.ndarray:
    library = np.asarray(counts.sum(axis=1)).ravel()
    return log1p_cp10k(counts, library).toarray()


def trial(alignment: float, seed: int, *, quick: bool) -> list[dict]:
    screen = simulated(alignment, 60, seed, n_cells_per_perturbation=125)
    rng = np.random.default_rng(seed)
    apart = np.zeros(screen.train.n_obs, dtype=bool)
    for rows in screen.train.obs.groupby("perturbation", observed=True).indices.values():
        apart[rng.choice(rows, len(rows) // 5, replace=False)] = True
    train, test = screen.train[~apart].copy(), screen.train[apart].copy()
    scvi.settings.seed = seed
    DBDiffusion.setup_anndata(train, **screen.setup)
    model = DBDiffusion(train)
    epochs = 2 if quick else None
    model.train(max_epochs=epochs, max_epochs_diffusion=epochs, enable_progress_bar=False)
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
    return [{"seed": seed, "alignment": alignment, "target": name, **row, **cells_like(model, test, name, seed, axes)}
            for name, row in scores.to_dict(orient="index").items()]  # fmt: skip


def cells_like(model: DBDiffusion, test, name: str, seed: int, axes: PCA) -> dict:
    real = test[(test.obs["perturbation"] == name).to_numpy()]
    cells = model.generate(name, n_cells=4 * real.n_obs, seed=seed)
    x, y = log_expression(real.X), log_expression(cells.X)
    a, b = axes.transform(x), axes.transform(y)
    halves = np.random.default_rng(seed).permutation(len(a))
    first, second = a[halves[::2]], a[halves[1::2]]
    expressed = x.mean(axis=0) > 0.1
    return {
        "energy_generated": energy_distance(a, b),
        "energy_split_half": energy_distance(first, second),
        "energy_control": energy_distance(a, axes.transform(log_expression(test[test.obs["perturbation"] == "control"].X))),
        "library_ratio": float(cells.X.sum() / cells.n_obs / (real.X.sum() / real.n_obs)),
        "zero_fraction_difference": float((y == 0).mean() - (x == 0).mean()),
        "variance_ratio": float(np.median(y[:, expressed].var(axis=0) / x[:, expressed].var(axis=0))),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--alignment", type=float, default=1.0)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in range(1 if options.quick else options.seeds):
        rows += trial(options.alignment, seed, quick=options.quick)
        print(pd.DataFrame(rows).drop(columns="target").median(numeric_only=True).round(3).to_string(), flush=True)
    print("written:", write("generation_fidelity", rows, options.out).name)


if __name__ == "__main__":
    main()
