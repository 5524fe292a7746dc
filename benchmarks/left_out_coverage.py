"""Do left-out intervals hold the true effects, over all perturbations of simulated screens?

    python benchmarks/left_out_coverage.py
    python benchmarks/left_out_coverage.py --n-control-cells 100 --effect-size 0.1 0.2 0.35 --n-perturbations 20

No network: the predictors are ridge and nearest neighbours in gene space, so a screen takes seconds and every perturbation
counts, where ``coverage.py`` can afford a dozen. Each is predicted without its fold, its interval made from what the others
tell (:func:`dbdiffusion.inference.leave_one_out`), and compared with its true effects. ``mse/zero`` is the mean over screens of
squared errors over those of "no effect", ``worst`` the largest: with few control cells and weak effects there is little to
say, and nothing must be the answer.
"""

from __future__ import annotations

import warnings
from itertools import product

import numpy as np
import pandas as pd
from _results import write
from _scores import LEVELS
from _screens import arguments, seeds_of, simulated
from evidence import Believed

from dbdiffusion.inference import fit_rectifier, leave_one_out
from dbdiffusion.metrics import two_sided_pit


def trial(alignment: float, n_perturbations: int, effect_size: float, seed: int, n_control_cells: int) -> list[dict]:
    """One screen; a row a perturbation."""
    simulation = simulated(alignment, n_perturbations, seed, effect_size=effect_size, n_control_cells=n_control_cells)
    believed = Believed.of(simulation.train, simulation.setup)
    screen, references = believed.spaces.screen, believed.references
    own = references.own_genes
    rectifier = fit_rectifier(references)
    estimate = leave_one_out(rectifier, references.without_own_genes())
    truth = simulation.reference.loc[list(screen.names)].to_numpy()
    pit = two_sided_pit(estimate.effect - truth, np.sqrt(estimate.se**2 + rectifier.control_variance), estimate.df)
    what = {"alignment": alignment, "n_perturbations": n_perturbations, "effect_size": effect_size, "seed": seed}
    rows = []
    for name, levels, genes, predicted_effect, true_effect in zip(screen.names, pit, own, estimate.effect, truth, strict=True):
        others = np.delete(levels, genes)
        covered = {f"coverage_{level:g}": float((others <= level).mean()) for level in LEVELS}
        error, effect = np.delete(predicted_effect - true_effect, genes), np.delete(true_effect, genes)
        rows.append(
            what | {"target": name} | covered | {"mse": float(np.mean(error**2)), "mse_zero": float(np.mean(effect**2))}
        )
    return rows


def summarise(rows: list[dict]) -> pd.DataFrame:
    keys = ["alignment", "n_perturbations", "effect_size"]
    frame = pd.DataFrame(rows)
    groups = frame.groupby(keys, sort=False)
    means = groups[[f"coverage_{level:g}" for level in LEVELS]].mean()
    errors = frame.groupby([*keys, "seed"], sort=False)[["mse", "mse_zero"]].mean()
    ratio = (errors["mse"] / errors["mse_zero"]).groupby(keys, sort=False)
    se_95 = groups["coverage_0.95"].sem()
    return means.assign(**{"se_95": se_95, "targets": groups.size(), "mse/zero": ratio.mean(), "worst": ratio.max()})


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--alignment", type=float, nargs="+", default=[1.0, 0.5, 0.0])
    parser.add_argument("--n-perturbations", type=int, nargs="+", default=[20, 60, 200])
    parser.add_argument("--effect-size", type=float, nargs="+", default=[0.5])
    parser.add_argument("--n-control-cells", type=int, default=800)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    sizes = options.n_perturbations[:1] if options.quick else options.n_perturbations
    rows: list[dict] = []
    for n_perturbations, effect_size, alignment in product(sizes, options.effect_size, options.alignment):
        for seed in seeds_of(options):
            rows += trial(alignment, n_perturbations, effect_size, seed, options.n_control_cells)
    print(summarise(rows).round(3).to_string())
    print("written:", write("left_out_coverage", rows, options).name)


if __name__ == "__main__":
    main()
