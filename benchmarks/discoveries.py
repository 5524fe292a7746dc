"""Of the genes that are listed for a perturbation nobody measured, how many are wrong, and how many are listed?

    python benchmarks/discoveries.py --screen simulated --n-perturbations 60 200
    python benchmarks/discoveries.py --screen simulated --effect-size 0.2 --n-control-cells 100
    python benchmarks/discoveries.py --screen sergio
    python benchmarks/discoveries.py --screen simulated --trained --models models

Without ``--trained`` no network takes part (predictors: ridge and nearest neighbours in gene space), every perturbation is a
target in turn, and its list is made by the others. With it perturbations are held out of everything, and networks trained
with the defaults. ``wrong`` is the false sign proportion (other sign than the truth, or no effect), an empty list counted as
right; on real screens twice the share of signs that disagree with the observation. ``wrong if any`` is that of lists that are
not empty. ``least`` is the least level that K references can promise. Without ``--trained`` the same left-out predictions also
give the tables of ``signs.py`` and ``confidence.py``.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import confidence
import numpy as np
import pandas as pd
import signs
from _held_out import screens_or_doubles_of
from _results import RESULTS, write
from _screens import Screen, folds_of, screen_arguments, seeds_of, simulated, trained
from evidence import Believed

from dbdiffusion.data import hold_out
from dbdiffusion.inference import discoveries_of, fit_rectifier

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

LEVELS = (0.05, 0.1, 0.2)
USUAL = {"effect_size": 0.5, "n_control_cells": 800, "unchanged": 0.0}  # of the simulator


def screens_of(options: argparse.Namespace, seed: int) -> Iterator[Screen]:
    """Those that the options ask for; simulated ones of every effect size, number of control cells and share of null genes."""
    if options.screen != "simulated":
        yield from screens_or_doubles_of(options, seed)
        return
    changes = {"n_genes": 150, "n_cells_per_perturbation": 30} if options.quick else {}
    for n, alignment, *others in product(
        options.n_perturbations, options.alignment, options.effect_size, options.n_control_cells, options.unchanged
    ):
        asked = dict(zip(("effect_size", "n_control_cells", "unchanged"), others, strict=True))
        screen = simulated(alignment, n, seed, **asked, **changes)
        told = [f"{name.replace('_', ' ')} {value:g}" for name, value in asked.items() if value != USUAL[name]]
        yield replace(screen, name=", ".join([screen.name, *told]))


def left_out(screen: Screen) -> dict[str, list[dict]]:
    """Every perturbation by the others, without networks: its list, its signs, its confidence."""
    believed = Believed.of(screen.train, screen.setup)
    measured, references = believed.spaces.screen, believed.references
    rectifier = fit_rectifier(references)
    rule = discoveries_of(rectifier, references, measured.is_listable, measured.halves)
    listable = measured.is_listable & ~references.is_own_gene
    q = rule.left_out_q_values(rectifier.loo_predicted, listable, references.coherence)
    lists = [
        scored(screen, *one)
        for one in zip(measured.names, q, rectifier.loo_predicted, strict=True)
        if one[0] in screen.reference.index  # of a screen of pairs, these
    ]
    return {
        "discoveries": [row | {"least": 2 / rule.n_reference} for row in lists],
        "signs": signs.rows_of(screen, believed, rectifier),
        "confidence": confidence.rows_of(screen, believed, rectifier),
    }


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
    for name, value in USUAL.items():
        kind = type(value)
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, nargs="+", default=[value], help="of --screen simulated")
    parser.add_argument("--name", help="of the files of results; default: that of the screen")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    folder, name = options.out or RESULTS, options.name or options.screen
    rows: dict[str, list[dict]] = {}
    for seed in seeds_of(options):
        for screen in screens_of(options, seed):
            if options.trained:
                new = [held_out_of_everything(screen, names, seed, options) for names in folds_of(screen, options, seed)]
                found = {"discoveries_trained": [row for fold in new for row in fold]}
            else:
                found = left_out(screen)
            for what, some in found.items():
                rows[what] = rows.get(what, []) + [row | {"seed": seed} for row in some]
            for what in filter(rows.get, rows):
                options.out = folder / f"{what}_{name}.json"
                write(what, rows[what], options)
        for what in filter(rows.get, rows):
            print(TABLES[what](rows[what]).round(3).to_string(), flush=True)


TABLES = {
    "discoveries": summarise,
    "discoveries_trained": summarise,
    "signs": signs.summarise,
    "confidence": confidence.summarise,
}


if __name__ == "__main__":
    main()
