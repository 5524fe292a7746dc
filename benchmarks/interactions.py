"""Are pairs called that do no more than the sum of their parts, and are those found that do?

    python benchmarks/interactions.py
    python benchmarks/interactions.py --screen norman

No network: observed effects of pairs less those of their parts. Simulated screens of 40 pairs of 40 perturbations: ``nothing``
(only the knocked-out genes change, so every pair is the sum of its parts), ``sums`` (shifts of module activities add; on the
scale of effects a pair then differs from the sum by what the logarithm and the shares bend, which ``true`` tells) and
``synergies`` (ten of the pairs have one planted, rows ``planted``). ``p < .05``: pairs said to do anything beyond the sum.
``called``: buffering or synergistic, by 95 % intervals along the sum, and ``wrong`` those of them whose true share has the
other sign or is below .05; ``holds``: intervals that hold the true share; ``none``: parts too weak to have a sum. ``genes``:
called ones a pair at a false discovery rate of 10 %, ``genes wrong`` the share whose true interaction has the other sign or is
below .01, and ``genes hold`` how many 95 % intervals hold the true one. The genes that a pair hits do not count.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd
from _results import RESULTS, write
from _screens import DATA, FILES, arguments, seeds_of
from matplotlib.figure import Figure

from dbdiffusion import DBDiffusion, simulate_screen
from dbdiffusion.inference import adjust_p_values, interactions
from dbdiffusion.model import ScreenReader
from dbdiffusion.plotting import pair_interactions
from dbdiffusion.screen import norm_cv

if TYPE_CHECKING:
    from dbdiffusion.inference import Interactions

N_PAIRS, N_PLANTED = 40, 10
SIMULATED = {"nothing": {"effect_size": 0.0}, "sums": {}, "synergies": {"n_synergies": N_PLANTED}}
LITTLE, LITTLE_OF_A_GENE = 0.05, 0.01  # below it a true interaction is none
LEVEL = 0.1


def found_in(adata: ad.AnnData, setup: dict) -> tuple[list[str], list[np.ndarray], Interactions]:
    """Names of the pairs whose parts were measured, the columns of the genes they hit, and what they do beyond the sum."""
    DBDiffusion.setup_anndata(adata, **setup)
    reader = ScreenReader(DBDiffusion(adata, n_latent=2).adata_manager)
    screen = reader.read(vectors=reader.gene_vectors(())[0])
    row = {name: i for i, name in enumerate(screen.names)}
    pairs = [name for name in screen.names if "+" in name and set(name.split("+")) <= set(row)]
    own = [np.flatnonzero(np.isin(screen.var_names, name.split("+"))) for name in pairs]
    seen = screen.observed
    df = np.broadcast_to(seen.df if seen.df.ndim > 1 else seen.df[:, None], seen.effect.shape)
    rows = [(row[name], [row[part] for part in name.split("+")]) for name in pairs]
    cv = norm_cv(seen.control_variance.mean(axis=0), screen.vectors)
    errors = (seen.variance, seen.control_variance, df, seen.control_df)
    return pairs, own, interactions(seen.effect, *errors, rows, screen.halves, own, cv)


def table_of(pairs: list[str], found: Interactions) -> pd.DataFrame:
    low, high = found.along.interval()
    return pd.DataFrame({
        "pair": pairs, "along": found.along.effect, "ci_low": low, "ci_high": high, "kind": found.kinds(), "size": found.size,
        "p_value": found.p_value, "q_value": adjust_p_values(found.p_value),
    })  # fmt: skip


def simulated(name: str, seed: int, *, quick: bool) -> list[dict]:
    """A row a pair, beside the truth."""
    n_genes = 150 if quick else 1000
    screen = simulate_screen(n_genes=n_genes, n_perturbations=40, n_combinations=N_PAIRS, seed=seed, **SIMULATED[name])
    truth, planted = screen.uns.pop("true_effects"), screen.uns.pop("true_synergies", pd.DataFrame()).index
    pairs, own, found = found_in(screen, {"batch_key": "batch"})
    table = table_of(pairs, found)
    gene_q = adjust_p_values(found.genes.p_value())
    gene_low, gene_high = found.genes.interval()
    rows = []
    for i, pair in enumerate(pairs):
        parts = truth.loc[pair.split("+")].sum(axis=0).to_numpy()
        beyond = truth.loc[pair].to_numpy() - parts
        genes = np.setdiff1d(np.arange(len(parts)), own[i])
        beyond, parts = beyond[genes], parts[genes]
        called = gene_q[i, genes] <= LEVEL
        wrong = (np.sign(found.genes.effect[i, genes]) != np.sign(beyond)) | (np.abs(beyond) < LITTLE_OF_A_GENE)
        held = (gene_low[i, genes] <= beyond) & (beyond <= gene_high[i, genes])
        rows.append({
            "screen": name, "seed": seed, "planted": pair in planted, **table.iloc[i].to_dict(),
            "true": float(beyond @ parts / (parts @ parts)) if (parts**2).sum() > 0 else np.nan,
            "genes": int(called.sum()), "genes wrong": int((called & wrong).sum()),
            "genes hold": float(held[np.isfinite(gene_low[i, genes])].mean()),
        })  # fmt: skip
    return rows


def norman() -> list[dict]:
    """A row a pair of the real screen, and a plot."""
    pairs, _, found = found_in(ad.read_h5ad(DATA / FILES["norman"]), {"size_factor_key": "total_counts"})
    table = table_of(pairs, found)
    figure = Figure(figsize=(5, 0.6 + 0.22 * len(table)), layout="constrained")
    pair_interactions(table, figure.subplots(), LEVEL, "norman, doubles in K562")
    figure.savefig(RESULTS / "interactions.png", dpi=110)
    genes = (adjust_p_values(found.genes.p_value()) <= LEVEL).sum(axis=1)
    return table.assign(screen="norman", seed=0, planted=False, genes=genes).to_dict("records")


def summarise(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    frame["none"] = frame["along"].isna()
    frame["p < .05"] = (frame["p_value"] < 0.05).astype(float)
    frame["called"] = frame["kind"].isin(["buffering", "synergistic"]).astype(float)
    answer = {}
    for (screen, planted), some in frame.groupby(["screen", "planted"], sort=False):
        label = f"{screen}, planted" if planted else screen
        row = {"pairs": len(some), "none": some["none"].mean()}
        for column in ("p < .05", "called"):
            row |= {column: some[column].mean(), f"se {column}": some.groupby("seed")[column].mean().sem()}
        row["genes"] = some["genes"].mean()
        if "true" in some and some["genes hold"].notna().any():
            false = (np.sign(some["along"]) != np.sign(some["true"])) | (some["true"].abs() < LITTLE)
            row["wrong"] = (some["called"].astype(bool) & false).mean()
            known = some[~some["none"] & some["true"].notna()]
            row["holds"] = ((known["ci_low"] <= known["true"]) & (known["true"] <= known["ci_high"])).mean()
            row["genes wrong"] = some["genes wrong"].sum() / max(some["genes"].sum(), 1)
            row["genes hold"] = some["genes hold"].mean()
        answer[label] = row
    return pd.DataFrame(answer).T.rename_axis("pairs of")


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(seeds=5)
    parser.add_argument("--screen", choices=["simulated", "norman"], default="simulated")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    if options.screen == "norman":
        rows = norman()
    else:
        for seed in seeds_of(options):
            for name in SIMULATED:
                rows += simulated(name, seed, quick=options.quick)
    print(summarise(rows).round(3).to_string())
    print("written:", write(f"interactions_{options.screen}", rows, options).name)


if __name__ == "__main__":
    main()
