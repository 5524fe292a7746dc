"""Do the intervals of held-out perturbations cover as often as they say, and are the predictions worse than a baseline?

    python benchmarks/coverage.py --screen simulated --alignment 1 0.5 0 --n-perturbations 20 60 200 --seeds 3
    python benchmarks/coverage.py --screen renge
    python benchmarks/coverage.py --screen network --seeds 3
    python benchmarks/coverage.py --screen sergio --seeds 3 --network-seeds 0 1 2

Held-out perturbations are never used: not their cells, effects or embeddings. Against simulated truth no noise is added
to the interval; against real cells the sampling noise of the observation is, and control cells are halved between model
and observation. Coverage of an observed mean is judged where five of its cells can be expected to express the gene (`judged`:
share of such genes; `all_95`: coverage over all genes): elsewhere the mean has an atom where no cell does. A real perturbation
counts once however many splits of the control cells it was predicted from, and any perturbation however many networks were
trained (`--network-seeds`). Of SERGIO a fifth of the perturbations is held out for each seed, of a simulated network a dozen
whose genes are measured, of renge without 17 of its 23 genes (`renge-unplaced`) the other six in turn. `paper` is the paper's
estimator on our generator with its default sampler and no guidance.
"""

from __future__ import annotations

import logging
import time
import warnings
from typing import TYPE_CHECKING

from _results import write
from _scores import score, summarise
from _screens import (
    Screen,
    folds_of,
    network_seeds_argument,
    network_seeds_of,
    screen_arguments,
    screens_of,
    seeds_of,
    trained,
)

from dbdiffusion.data import hold_out

if TYPE_CHECKING:
    import argparse

WAYS = {
    "default": {},
    "hierarchical": {"method": "hierarchical"},
    "mean": {"lam": 0.0},  # of the measured perturbations
    "lam0": {"lam": 0.0},  # the same, but the reference set may be those that resemble the target
    "lam1": {"lam": 1.0},  # plain prediction-powered inference with the generated mean
    "k_fold": {"cross_fitting": "k_fold"},
    "in_sample": {"cross_fitting": "in_sample"},
    "paper": {"method": "paper"},
}


def trial(screen: Screen, held_out: list[str], seed: int, network_seed: int, options: argparse.Namespace) -> list[dict]:
    """Train without some perturbations, predict them every way, score each."""
    rest, _ = hold_out(screen.train, held_out)
    model = trained(rest, screen, network_seed, options)
    start = time.perf_counter()
    if "k_fold" in options.ways:
        model.cross_fit(max_epochs=3 if options.quick else None)
    cost = {"k_fold": time.perf_counter() - start}
    baselines = [model.baseline_effects(name) for name in held_out]
    rows = []
    for way in options.ways:
        start = time.perf_counter()
        table = model.predict_effects(held_out, seed=network_seed, **WAYS[way])
        seconds = cost.get(way, 0.0) + time.perf_counter() - start
        for name, baseline, (_, block) in zip(held_out, baselines, table.groupby("target", sort=False), strict=True):
            weights = float(sum(table.attrs["weights"].get("single", {}).values()))
            what = {"screen": screen.name, "seed": seed, "network_seed": network_seed, "way": way, "target": name}
            what |= {"seconds": seconds, "weights": weights}
            rows.append(what | score(screen, name, block, baseline, model))
    return rows


def main() -> None:
    parser = screen_arguments(__doc__)
    network_seeds_argument(parser)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=[way for way in WAYS if way != "k_fold"])
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        for screen in screens_of(options, seed):
            for held_out in folds_of(screen, options, seed):
                for network_seed in network_seeds_of(options, seed):
                    rows += trial(screen, held_out, seed, network_seed, options)
                file = write(f"coverage_{options.screen}", rows, options)
            print(summarise(rows).round(3).to_string(), flush=True)
    print("written:", file.name)


if __name__ == "__main__":
    main()
