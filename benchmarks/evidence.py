"""Does left-out evidence keep what it promises, and is a useless predictor seen to be useless?

    python benchmarks/evidence.py --screen simulated --alignment 1 0.5 0
    python benchmarks/evidence.py --screen sergio --seeds 3

No network, so that every perturbation of a screen is held out in turn: the predictors are ridge and nearest neighbours in
gene space. ``believed`` is the squared error of left-out references over the mean's, as the tuning sees it; ``realised`` the
same ratio for perturbations whose cells were held out of everything. ``ridge believed`` and ``ridge realised`` (and so for
``knn`` and ``cluster``) are those of a strategy by itself, as ``embedding_scores()`` tells, the noise of the observation in it.
``placebo weight`` and ``placebo error`` (over the better of mean and zero): tuning with the gene vectors of the references
permuted among them, twenty times a hold-out. Ratios are those of sums over hold-outs, standard errors are over hold-outs.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _results import write
from _screens import Screen, in_folds, screen_arguments, screens_of, seeds_of

from dbdiffusion import DBDiffusion
from dbdiffusion.data import hold_out
from dbdiffusion.embedding import LeftOutSpaces, fit_space, neighbour_coherence
from dbdiffusion.inference import PERMUTATIONS, References, fit_rectifier, left_out_evidence, placebo_evidence
from dbdiffusion.metrics import error_ratio
from dbdiffusion.model import ScreenReader
from dbdiffusion.screen import norm_cv

if TYPE_CHECKING:
    import anndata as ad

PREDICTORS = ("knn", "ridge")
STRATEGIES = ("knn", "ridge", "cluster")


@dataclass(frozen=True)
class Believed:
    """A screen without its held-out perturbations, and what its references say."""

    spaces: LeftOutSpaces
    as_observed: References

    @cached_property
    def references(self) -> References:
        """Less the control's error."""
        return self.as_observed.corrected()

    @classmethod
    def of(cls, rest: ad.AnnData, setup: dict) -> Believed:
        """Of the cells that are left."""
        DBDiffusion.setup_anndata(rest, **setup)
        screen = ScreenReader(DBDiffusion(rest, n_latent=2).adata_manager).read()
        spaces = LeftOutSpaces(screen, 32, screen.left_out)
        return cls(spaces, references_of(spaces))


def references_of(spaces: LeftOutSpaces) -> References:
    screen = spaces.screen
    predicted = {kind: np.empty_like(screen.observed.effect) for kind in PREDICTORS}
    own: dict[int, np.ndarray] = {}
    coherence = np.zeros(len(screen.names))
    for space, rows in spaces.folds():
        names = [screen.names[row] for row in rows]
        for kind in PREDICTORS:
            placed = space.with_ranking((kind, "mean"), places_anything=True)
            predicted[kind][rows] = placed.predict_effect(names)
        coherence[rows] = neighbour_coherence(space, names)
        own |= {row: space.own_genes(name) for row, name in zip(rows, names, strict=True)}
    control = screen.observed.control_variance.mean(axis=0)
    return References(
        screen.observed.effect,
        screen.observed.variance,
        control,
        predicted,
        tuple(own[row] for row in range(len(screen.names))),
        control_norm_cv=norm_cv(control, screen.vectors),
        coherence=coherence,
    )


def trial(screen: Screen, held_out: list[str]) -> dict:
    """One hold-out: what was believed and what came out."""
    start = time.perf_counter()
    rest, _ = hold_out(screen.train, held_out)
    believed = Believed.of(rest, screen.setup)
    spaces, measured, references = believed.spaces, believed.spaces.screen, believed.references
    rectifier = fit_rectifier(references)
    evidence = left_out_evidence(rectifier, references)
    held_out = [name for name in held_out if name in measured.var_names]
    space = fit_space(measured.names, measured.observed, measured.genes, 32, (*PREDICTORS, "mean"))
    predicted = {kind: space.with_ranking((kind, "mean")).predict_effect(held_out) for kind in STRATEGIES}
    estimate = rectifier.estimate(references.of_targets({kind: predicted[kind] for kind in PREDICTORS}))
    mean = np.repeat(measured.observed.effect.mean(axis=0)[None], len(held_out), axis=0)
    row = {"believed error": evidence.prediction.sum()}
    row |= {"believed mean": evidence.mean.sum(), "believed zero": evidence.zero.sum()}
    realised = {"realised": estimate.effect, "realised mean": mean, "realised zero": 0 * mean, **predicted}
    for kind, values in realised.items():
        row[f"{kind} error" if kind in ("realised", *STRATEGIES) else kind] = _squared_error(screen, held_out, values)
    scores = spaces.scores()
    for kind in STRATEGIES:
        row |= {f"{kind} believed": scores["relative_to_mean"].get(kind, np.nan), f"{kind} believed se": scores["se"].get(kind)}
    weight, placebo = _placebo(spaces)
    return row | {"weights": sum(rectifier.weights.values()), "placebo weight": weight, "placebo error": placebo,
                  "n": len(held_out), "seconds": time.perf_counter() - start}  # fmt: skip


def _placebo(spaces: LeftOutSpaces) -> tuple[float, float]:
    weights, errors = [], []
    for permutation in range(PERMUTATIONS):
        weight, evidence = placebo_evidence(references_of(spaces.permuted(permutation)))
        weights.append(weight)
        errors.append(evidence.ratio(evidence.best)[0])
    return float(np.mean(weights)), float(np.mean(errors))


def _squared_error(screen: Screen, names: list[str], predicted: np.ndarray) -> float:
    """Sum over perturbations and genes but their own, the noise of the observation taken out."""
    others = np.stack([screen.reference.columns != name for name in names])
    reference, noise = screen.reference.loc[names].to_numpy(), screen.noise.loc[names].to_numpy()
    return float(np.where(others, (predicted - reference) ** 2 - noise, 0).sum())


def summarise(rows: list[dict]) -> pd.DataFrame:
    """Ratios of sums over the hold-outs of a screen."""
    tables = {}
    for name, part in pd.DataFrame(rows).groupby("screen", sort=False):
        table = {"hold-outs": len(part), "weights": part["weights"].mean()}
        for kind in ("mean", "zero"):
            believed, se = error_ratio(part["believed error"].to_numpy(), part[f"believed {kind}"].to_numpy())
            realised, realised_se = error_ratio(part["realised error"].to_numpy(), part[f"realised {kind}"].to_numpy())
            table |= {f"believed / {kind}": believed, f"realised / {kind}": realised, f"se / {kind}": np.hypot(se, realised_se)}
        for kind in STRATEGIES:
            table[f"{kind} believed"] = part[f"{kind} believed"].mean()
            table[f"{kind} realised"] = error_ratio(part[f"{kind} error"].to_numpy(), part["realised mean"].to_numpy())[0]
        last = part.reindex(columns=["placebo weight", "placebo error", "seconds"])
        tables[name] = table | last.mean().to_dict()
    return pd.DataFrame(tables).T


def main() -> None:
    parser = screen_arguments(__doc__)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        for screen in screens_of(options, seed):
            for held_out in in_folds(screen.candidates, options, seed):
                rows.append({"screen": screen.name, "seed": seed, **trial(screen, held_out)})
                file = write(f"evidence_{options.screen}", rows, options)
            print(summarise(rows).round(3).T.to_string(), flush=True)
    print("written:", file.name)


if __name__ == "__main__":
    main()
