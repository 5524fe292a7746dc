"""How much of the control mean's sampling error do predictions carry?

    python benchmarks/carried_error.py --screen simulated --alignment 1 0.5
    python benchmarks/carried_error.py --screen renge-days

All observed effects share the error of the control mean, and so does a mean of them. Tuning has to know who else does.
`share` is the inner product of left-out predictions of the references and of the error of their observed effects, over the
squared norm that is expected of the control's error: 1 for a mean of observed effects, but for chance, which predictors that
say much the same have in common. Simulated screens: the error is observed less true. Real screens: observed effects against
the model's half of control less the same against the other half, which no prediction knows. `size`: squared norm of
predictions over that of observed effects.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _results import write
from _screens import Screen, screen_arguments, screens_of, seeds_of, trained

from dbdiffusion.predict import GenerationOptions, Recipe, references_of

if TYPE_CHECKING:
    import argparse


def rows_of(screen: Screen, seed: int, options: argparse.Namespace) -> list[dict]:
    model = trained(screen.train, screen, seed, options)
    recipe = Recipe(GenerationOptions(seed=seed), n_cells=8 if options.quick else Recipe.n_cells)
    pool = model.predictor().references(recipe)
    references = references_of(model.predictor(), pool, np.arange(len(pool.rows)))
    error = references.effect - screen.reference.loc[list(pool.names)].to_numpy()
    for row, genes in enumerate(references.own_genes):
        error[row, genes] = 0
    expected = float(references.control_variance.sum())
    size = (references.effect**2).sum()
    return [
        {
            "screen": screen.name,
            "seed": seed,
            "predictor": name,
            "share": float((predicted * error).sum() / len(error) / expected),
            "size": float((predicted**2).sum() / size),
        }
        for name, predicted in references.predicted.items()
    ]


def summarise(rows: list[dict]) -> pd.DataFrame:
    groups = pd.DataFrame(rows).groupby(["screen", "predictor"], sort=False)
    table = groups[["share", "size"]].mean()
    return table.assign(least=groups["share"].min(), most=groups["share"].max(), screens=groups.size())


def main() -> None:
    options = screen_arguments(__doc__).parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        for screen in screens_of(options, seed):
            rows += rows_of(screen, seed, options)
            file = write(f"carried_error_{options.screen}", rows, options)
    print(summarise(rows).round(3).to_string())
    print("written:", file.name)


if __name__ == "__main__":
    main()
