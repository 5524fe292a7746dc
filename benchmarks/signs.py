"""Is a predicted sign wrong as often as lfsr says?

Written by ``discoveries.py``. Every perturbation of a screen is predicted as if it had not been measured, and gets its lfsr by
the law that the other four fifths of the perturbations tell; genes that cannot be listed have none. A row is a class of
lfsr of all screens of a kind: ``perturbations`` with genes in it, mean ``lfsr``, the share of signs that differ from those
of true effects that are not zero (``wrong``), the difference in points (``off``) and its standard error, clustered by
perturbation, and whether it ``holds``: within three points or two standard errors. On real screens the truth is not known:
``wrong`` are signs that differ from the observed ones, and ``lfsr`` is how many should, the noise of the observation
reckoned with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbdiffusion.inference import left_out_lfsr, left_out_signs, signs_of

if TYPE_CHECKING:
    from _screens import Screen
    from evidence import Believed

    from dbdiffusion.inference import Rectifier

EDGES = np.linspace(0, 0.5, 11)
MIN_PERTURBATIONS, POINTS = 20, 0.03


def rows_of(screen: Screen, believed: Believed, rectifier: Rectifier) -> list[dict]:
    """A row a class of lfsr that holds signs."""
    measured, references = believed.spaces.screen, believed.references
    signs = signs_of(rectifier, references, measured.is_listable)
    if screen.is_noisy:
        table = left_out_signs(signs)
        table = table[table["n_signs"] > 0]
        return [
            {"screen": screen.name, "class": k, "perturbations": row["n_references"], "signs": row["n_signs"],
             "said": row["expected"], "wrong": row["observed"], "squares": (row["observed_se"] * row["n_signs"]) ** 2}
            for k, row in table.iterrows()
        ]  # fmt: skip
    truth = screen.reference.loc[list(measured.names)].to_numpy()
    lfsr = left_out_lfsr(rectifier, references, signs)
    wrong = np.sign(rectifier.loo_predicted) != np.sign(truth)
    counted = measured.is_listable & ~references.is_own_gene & (truth != 0) & (rectifier.loo_predicted != 0) & np.isfinite(lfsr)
    of_class = np.where(counted, np.digitize(lfsr, EDGES[1:-1]), -1)
    rows = []
    for k in range(len(EDGES) - 1):
        inside = of_class == k
        n = inside.sum()
        if n:
            excess = np.where(inside, wrong - lfsr, 0)
            of_each = excess.sum(axis=1) - excess.sum() / n * inside.sum(axis=1)
            row = {"screen": screen.name, "class": k, "perturbations": int(inside.any(axis=1).sum()), "signs": int(n)}
            rows.append(row | {"said": lfsr[inside].mean(), "wrong": wrong[inside].mean(), "squares": (of_each**2).sum()})
    return rows


def summarise(rows: list[dict]) -> pd.DataFrame:
    """Screens of a kind together."""
    frame = pd.DataFrame(rows)
    frame[["said", "wrong"]] = frame[["said", "wrong"]].mul(frame["signs"], axis=0)
    table = frame.groupby(["screen", "class"])[["perturbations", "signs", "said", "wrong", "squares"]].sum().reset_index()
    lfsr, wrong = table["said"] / table["signs"], table["wrong"] / table["signs"]
    se = np.sqrt(table["squares"]) / table["signs"]
    edges = [f"{EDGES[int(k)]:.2f}-{EDGES[int(k) + 1]:.2f}" for k in table["class"]]
    few = table["perturbations"] < MIN_PERTURBATIONS
    holds = np.where(few, "few", np.where((wrong - lfsr).abs() <= np.maximum(POINTS, 2 * se), "yes", "no"))
    columns = {"screen": table["screen"], "class": edges, "perturbations": table["perturbations"].astype(int)}
    shares = {"lfsr": lfsr, "wrong": wrong, "off": 100 * (wrong - lfsr), "se": 100 * se, "holds": holds}
    return pd.DataFrame(columns | shares).set_index(["screen", "class"])
