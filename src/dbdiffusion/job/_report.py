"""Plots and the report that a biologist reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from dbdiffusion.job._calibration import calibration_lines
from dbdiffusion.plotting import cell_map, gene_intervals, losses, predicted_against_observed, volcano

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from anndata import AnnData
    from matplotlib.axes import Axes

    from dbdiffusion.job._calibration import Checked
    from dbdiffusion.model import DBDiffusion

MAX_TARGETS = 12


def draw_plots(model: DBDiffusion, effects: pd.DataFrame, cells: AnnData | None, folder: Path) -> list[tuple[str, str]]:
    """Write the plots; returns file names and captions."""
    targets = {str(name): table for name, table in effects.groupby("target", sort=False)}
    shown = dict(list(targets.items())[:MAX_TARGETS])
    seen = {name: table for name, table in shown.items() if table["observed"].notna().any()}
    plots = []
    if seen:
        _grid(seen, lambda t, ax, name: predicted_against_observed(t, ax, name), folder / "predicted_against_observed.png")
        caption = "Predicted against observed effects of held-out targets (one dot a gene, interval as a line)."
        plots.append(("predicted_against_observed.png", caption))
    _grid(shown, lambda t, ax, name: gene_intervals(t, ax, title=name), folder / "gene_intervals.png", height=3.6)
    plots.append(("gene_intervals.png", "The genes with the smallest p-values and their 95 % prediction intervals."))
    _grid(shown, lambda t, ax, name: volcano(t, ax, title=name), folder / "volcano.png")
    plots.append(("volcano.png", "Effect against p-value; genes at 5 % false discovery rate in red."))
    if cells is not None:
        table = _umap(cells)
        maps = {name: table[table["target"].isin([name, ""])] for name in shown}
        _grid(maps, lambda t, ax, name: cell_map(t, ax, name), folder / "cells.png")
        plots.append(("cells.png", "Control, observed and generated cells in one UMAP."))
    stages = {"vae": pd.DataFrame(), "diffusion": pd.DataFrame()}
    _grid(stages, lambda _t, ax, stage: losses(model.history, ax, stage), folder / "losses.png")
    plots.append(("losses.png", "Losses of the two stages."))
    return plots


def cells_to_map(control: AnnData, observed: AnnData | None, generated: AnnData, key: str, n: int = 150) -> AnnData:
    """Control, observed and generated cells in one AnnData, at most ``n`` of each kind a target (control: 3n)."""
    import anndata as ad

    rng = np.random.default_rng(0)
    blocks = [_subset(control, np.arange(control.n_obs), 3 * n, rng, "", "control")]
    for kind, cells in (("observed", observed), ("generated", generated)):
        if cells is None:
            continue
        names = cells.obs[key].astype(str).to_numpy()
        for name in list(dict.fromkeys(generated.obs[key].astype(str)))[:MAX_TARGETS]:
            rows = np.flatnonzero(names == name)
            if len(rows):
                blocks.append(_subset(cells, rows, n, rng, name, kind))
    return ad.concat(blocks, index_unique="-", keys=[str(i) for i in range(len(blocks))])


def write_report(
    folder: Path, summary: dict[str, Any], table: pd.DataFrame, plots: list[tuple[str, str]], checked: Checked
) -> None:
    """Write ``report.md``."""
    held_out = [t for t in summary["targets"] if t["mse"] is not None]
    lines = ["# Effects of perturbations that were not measured", "", _what(summary), ""]
    if held_out:
        ratio = np.mean([t["mse"] / t["mse_mean_baseline"] for t in held_out])
        covered = np.mean([t["coverage_95"] for t in held_out if t["coverage_95"] is not None] or [np.nan])
        lines += [
            "## How good are the predictions?",
            "",
            f"Hidden and predicted: {len(held_out)} of the measured perturbations. Their squared error is {ratio:.2f} times "
            f"that of the mean of the measured perturbations (below 1 is better), and the 95 % intervals hold {covered:.1%} of "
            "the observed effects, the noise of the observation included.",
            "",
        ]
    lines += ["## Targets", "", _markdown(table), "", _HOW_TO_READ, ""]
    lines += calibration_lines(checked, _markdown)
    lines += ["## How unseen perturbations were placed", "", _markdown(pd.DataFrame(summary["embedding_scores"]).T), ""]
    lines += ["## Plots", ""]
    for file, caption in plots:
        lines += [f"![{caption}]({file})", "", caption, ""]
    lines += [
        "## Run",
        "",
        f"Seed {summary['seed']}. Seconds: {_inline(summary['seconds'])}. Versions: {_inline(summary['versions'])}.",
        "",
    ]
    (folder / "report.md").write_text("\n".join(lines))


_HOW_TO_READ = (
    "Effects are differences of mean log1p counts per 10,000 (natural log) from control. `mse / mean`, `/ zero`, `/ ridge`:"
    " squared error over that of the mean of measured perturbations, of predicting no effect, and of ridge regression from "
    "gene space (for a combination of measured parts: of the sum of their effects); below 1 is better. "
    "`split_half_ceiling`: the correlation a perfect prediction could reach, given the noise of the observed cells. `lam`: "
    "weight of the generated mean; near 0 the generator did not help on this screen. `n_de`: genes at 5 % false discovery "
    "rate. The gene that a perturbation hits is left out of all scores. An interval is a prediction interval: over "
    "perturbations like the measured ones it holds the effect of a new one in 95 % of cases; it promises nothing about a "
    "single perturbation of another kind."
)


def _what(summary: dict[str, Any]) -> str:
    screen = summary["screen"]
    return (
        f"{screen['n_cells']:,} cells, {screen['n_genes']:,} genes, {screen['n_perturbations']} measured perturbations "
        f"({screen['source']}); {len(summary['targets'])} targets predicted without any of their cells."
    )


def _markdown(frame: pd.DataFrame) -> str:
    frame = frame.dropna(axis=1, how="all")
    text = frame.map(lambda v: f"{v:.3g}" if isinstance(v, float) and not np.isnan(v) else "" if pd.isna(v) else str(v))
    rows = [["", *map(str, text.columns)], ["---"] * (text.shape[1] + 1)]
    rows += [[str(index), *row] for index, row in zip(text.index, text.to_numpy().tolist(), strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _inline(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items())


def _grid(
    tables: dict[str, pd.DataFrame], draw: Callable[[pd.DataFrame, Axes, str], Axes], file: Path, height: float = 3.0
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, len(tables))
    rows = -(-len(tables) // columns)
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(3.2 * columns, height * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, (name, table) in zip(axes, tables.items(), strict=False):
            draw(table, ax, name)
        for ax in axes[len(tables) :]:
            ax.set_axis_off()
        figure.savefig(file, dpi=130)


def _subset(cells: AnnData, rows: np.ndarray, n: int, rng: np.random.Generator, target: str, kind: str) -> AnnData:
    import anndata as ad

    rows = np.sort(rng.choice(rows, min(n, len(rows)), replace=False))
    obs = pd.DataFrame({"target": target, "kind": kind}, index=cells.obs_names[rows])
    return ad.AnnData(cells.X[rows].astype(np.float32), obs=obs, var=pd.DataFrame(index=cells.var_names))


def _umap(cells: AnnData) -> pd.DataFrame:
    import scanpy as sc

    cells = cells[np.asarray(cells.X.sum(axis=1)).ravel() > 0].copy()
    sc.pp.normalize_total(cells, target_sum=1e4)
    sc.pp.log1p(cells)
    sc.pp.pca(cells, n_comps=min(30, cells.n_obs - 1, cells.n_vars - 1), random_state=0)
    sc.pp.neighbors(cells, n_neighbors=15, random_state=0)
    sc.tl.umap(cells, random_state=0)
    x, y = cells.obsm["X_umap"].T
    return cells.obs.assign(x=x, y=y)
