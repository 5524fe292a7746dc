"""Of the genes that are listed for a perturbation nobody measured, how many are wrong, and how many are listed?

    python benchmarks/discoveries.py --screen simulated --n-perturbations 60 200
    python benchmarks/discoveries.py --screen sergio
    python benchmarks/discoveries.py --screen simulated --trained --models models

Without ``--trained`` no network takes part (predictors: ridge and nearest neighbours in gene space), every perturbation is a
target in turn, and its list is made by the others. With it perturbations are held out of everything, and networks trained
with the defaults. ``wrong`` is the false sign proportion (other sign than the truth, or no effect), an empty list counted as
right; on real screens twice the share of signs that disagree with the observation. ``wrong if any`` is that of lists that are
not empty. ``least`` is the least level that K references can promise.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _held_out import screens_or_doubles_of
from _results import write
from _screens import Screen, folds_of, screen_arguments, seeds_of, trained
from evidence import references_of

from dbdiffusion import DBDiffusion
from dbdiffusion.data import hold_out
from dbdiffusion.embedding import LeftOutSpaces
from dbdiffusion.inference import discoveries_of, fit_rectifier, scores
from dbdiffusion.model import ScreenReader

if TYPE_CHECKING:
    import argparse

LEVELS = (0.05, 0.1, 0.2)


def left_out(screen: Screen) -> list[dict]:
    """Every perturbation by the others, without networks."""
    DBDiffusion.setup_anndata(screen.train, **screen.setup)
    measured = ScreenReader(DBDiffusion(screen.train, n_latent=2).adata_manager).read()
    references = references_of(LeftOutSpaces(measured, 32, measured.left_out))
    rectifier = fit_rectifier(references)
    rule = discoveries_of(rectifier, references, measured.is_listable, measured.halves)
    rows = []
    for i, name in enumerate(measured.names):
        listable = measured.is_listable.copy()
        listable[references.own_genes[i]] = False
        predicted = rectifier.loo_predicted[i]
        score = scores(predicted[None], references.coherence[[i]])
        q = rule.without(i).q_values(score, listable[None])[0]
        rows.append(scored(screen, name, q, predicted) | {"least": rule.without(i).least_promise})
    return rows


def held_out_of_everything(screen: Screen, names: list[str], seed: int, options: argparse.Namespace) -> list[dict]:
    rest, _ = hold_out(screen.train, names)
    model = trained(rest, screen, seed, options)
    table = model.predict_effects(names, seed=seed)
    least = next(iter(table.attrs["lists"].values()))["least_promise"]
    return [
        scored(screen, str(name), block["adj_p_value"].to_numpy(), block["effect"].to_numpy()) | {"least": least}
        for name, block in table.groupby("target", sort=False)
    ]


def scored(screen: Screen, name: str, q: np.ndarray, predicted: np.ndarray) -> dict:
    """Genes listed at every level, and how many are wrong."""
    reference = screen.reference.loc[name].to_numpy()
    weight = 2.0 if screen.is_noisy else 1.0  # an observation disagrees half of the time where nothing changed
    row: dict = {"screen": screen.name, "target": name}
    for level in LEVELS:
        listed = q <= level
        wrong = weight * (np.sign(predicted) * reference <= 0)[listed].sum()
        row |= {f"listed {level:g}": int(listed.sum()), f"wrong {level:g}": float(wrong / max(listed.sum(), 1))}
    return row


def summarise(rows: list[dict]) -> pd.DataFrame:
    tables = {}
    for name, part in pd.DataFrame(rows).groupby("screen", sort=False):
        table = {"targets": len(part), "least": part["least"].mean()}
        for level in LEVELS:
            listed, wrong = part[f"listed {level:g}"], part[f"wrong {level:g}"]
            se = part.groupby("seed")[f"wrong {level:g}"].mean().sem() if part["seed"].nunique() > 2 else wrong.sem()
            table |= {
                f"listed {level:g}": listed.median(),
                f"wrong {level:g}": wrong.mean(),
                f"se {level:g}": se,
                f"empty {level:g}": (listed == 0).mean(),
                f"wrong if any {level:g}": wrong[listed > 0].mean(),
            }
        tables[name] = table
    return pd.DataFrame(tables).T


def main() -> None:
    parser = screen_arguments(__doc__, "norman-doubles")
    parser.add_argument("--trained", action="store_true", help="hold perturbations out of networks")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        for screen in screens_or_doubles_of(options, seed):
            if options.trained:
                for names in folds_of(screen, options, seed):
                    rows += [row | {"seed": seed} for row in held_out_of_everything(screen, names, seed, options)]
            else:
                rows += [row | {"seed": seed} for row in left_out(screen)]
            file = write(f"discoveries_{'trained_' if options.trained else ''}{options.screen}", rows, options)
        print(summarise(rows).round(3).T.to_string(), flush=True)
    print("written:", file.name)


if __name__ == "__main__":
    main()
