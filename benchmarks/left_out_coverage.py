"""Do left-out intervals hold the true effects, over all perturbations of simulated screens?

    python benchmarks/left_out_coverage.py

No network: the predictors are ridge and nearest neighbours in gene space, so a screen takes seconds and every perturbation
counts, where ``coverage.py`` can afford a dozen. Each is predicted without its own effect, its interval made from what the
others tell (:func:`dbdiffusion.inference.leave_one_out`), and compared with its true effects.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from _scores import LEVELS
from _screens import arguments, simulated, write

from dbdiffusion import DBDiffusion
from dbdiffusion.embedding import fit_space, norm_cv
from dbdiffusion.inference import References, fit_rectifier, leave_one_out
from dbdiffusion.metrics import two_sided_pit
from dbdiffusion.model._screen import ScreenReader

PREDICTORS = ("ridge", "knn")


def trial(alignment: float, n_perturbations: int, seed: int) -> list[dict]:
    """One screen; a row a perturbation."""
    simulation = simulated(alignment, n_perturbations, seed)
    DBDiffusion.setup_anndata(simulation.train, **simulation.setup)
    screen = ScreenReader(DBDiffusion(simulation.train, n_latent=2).adata_manager).read()
    space = fit_space(screen.names, screen.observed, screen.genes, 32, PREDICTORS)
    predicted = {
        kind: np.concatenate([space.leave_out(n).with_ranking((kind,)).predict_effect([n]) for n in screen.names])
        for kind in PREDICTORS
    }
    observed = screen.observed
    own = tuple(space.own_genes(name) for name in screen.names)
    control = observed.control_variance.mean(axis=0)
    references = References(
        observed.effect, observed.variance, control, predicted, own, control_norm_cv=norm_cv(control, screen.vectors)
    )
    rectifier = fit_rectifier(references)
    estimate = leave_one_out(rectifier, references.without_own_genes())
    truth = simulation.reference.loc[list(screen.names)].to_numpy()
    pit = two_sided_pit(estimate.effect - truth, np.sqrt(estimate.se**2 + rectifier.control_variance), estimate.df)
    rows = []
    for name, levels, genes in zip(screen.names, pit, own, strict=True):
        others = np.delete(levels, genes)
        covered = {f"coverage_{level:g}": float((others <= level).mean()) for level in LEVELS}
        rows.append({"alignment": alignment, "n_perturbations": n_perturbations, "seed": seed, "target": name, **covered})
    return rows


def summarise(rows: list[dict]) -> pd.DataFrame:
    groups = pd.DataFrame(rows).groupby(["alignment", "n_perturbations"], sort=False)
    means = groups.mean(numeric_only=True).drop(columns="seed")
    return means.assign(se_95=groups["coverage_0.95"].sem(), targets=groups.size())


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--alignment", type=float, nargs="+", default=[1.0, 0.5, 0.0])
    parser.add_argument("--n-perturbations", type=int, nargs="+", default=[20, 60, 200])
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    sizes = options.n_perturbations[:1] if options.quick else options.n_perturbations
    rows: list[dict] = []
    for n_perturbations in sizes:
        for alignment in options.alignment:
            for seed in range(1 if options.quick else options.seeds):
                rows += trial(alignment, n_perturbations, seed)
    print(summarise(rows).round(3).to_string())
    print("written:", write("left_out_coverage", rows, options).name)


if __name__ == "__main__":
    main()
