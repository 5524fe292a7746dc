"""Are effects predicted per day (a context) covered as often as they say, and no worse than the day's own mean?

    python benchmarks/contexts.py

Renge with ``context_key="day"``, one model for all days. Perturbations are held out on every day, in folds; control cells are
halved between model and observation. Everything else as in ``coverage.py``.
"""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
from _results import write
from _scores import score, summarise
from _screens import DATA, Screen, apart_from_training, held_out_arguments, in_folds, judged_where, seeds_of, trained

from dbdiffusion import DBDiffusion
from dbdiffusion.data import hold_out

if TYPE_CHECKING:
    import argparse

KEY = "day"


def screens_by_day(seed: int) -> dict[str, Screen]:
    """One screen a day: the same cells to train on, effects of the day to compare with."""
    adata = ad.read_h5ad(DATA / "renge_hipsc.h5ad")
    adata.obs[KEY] = adata.obs[KEY].astype(str)
    train, compared = apart_from_training(adata, seed)
    DBDiffusion.setup_anndata(compared, context_key=KEY)
    table = DBDiffusion(compared, n_latent=2).observed_effects()
    screens = {}
    for day, rows in table.groupby("context"):
        effect, se = (rows.pivot(index="target", columns="variable", values=v)[adata.var_names] for v in ("effect", "se"))
        cells = compared[(compared.obs[KEY] == day).to_numpy()]
        screens[str(day)] = Screen(f"renge day {day}", train, effect, se**2, judged_where(cells, effect), {"context_key": KEY})
    return screens


def trial(screens: dict[str, Screen], hidden: list[str], seed: int, options: argparse.Namespace) -> list[dict]:
    """Train without some perturbations on any day, predict them on every day."""
    first = next(iter(screens.values()))
    rest, _ = hold_out(first.train, hidden)
    model = trained(rest, first, seed, options)
    rows = []
    for day, screen in screens.items():
        view = model.in_context(day)
        table = view.predict_effects([name for name in hidden if name in screen.reference.index], seed=seed)
        for name, block in table.groupby("target", sort=False):
            what = {"screen": screen.name, "seed": seed, "way": "default", "target": name, "seconds": np.nan}
            weights = float(sum(table.attrs["weights"]["single"].values()))
            rows.append(what | {"weights": weights} | score(screen, str(name), block, view.baseline_effects(str(name)), view))
    return rows


def main() -> None:
    parser = held_out_arguments(__doc__)
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        screens = screens_by_day(seed)
        names = sorted(set.union(*(set(screen.reference.index) for screen in screens.values())))
        for hidden in in_folds(names, options, seed):
            rows += trial(screens, hidden, seed, options)
            file = write("contexts_renge", rows, options)
        print(summarise(rows).round(3).to_string(), flush=True)
    print("written:", file.name)


if __name__ == "__main__":
    main()
