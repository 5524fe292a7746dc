"""Plots and the report that a biologist reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd

from dbdiffusion.job._calibration import TRUSTED, calibration_lines
from dbdiffusion.job._evaluate import gap_lines, rows_in, stacked, title_of, views_of
from dbdiffusion.plotting import cell_map, gene_intervals, losses, perturbation_map, predicted_against_observed, ranked_effects

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData
    from jinja2 import Template
    from matplotlib.axes import Axes

    from dbdiffusion.job._answers import GeneList
    from dbdiffusion.job._calibration import Checked
    from dbdiffusion.model import DBDiffusion


# Where the measured perturbations and the targets lie, on two axes.


def places_of(view: Any, targets: Sequence[str]) -> pd.DataFrame:
    """Embeddings on the first two principal axes of the measured perturbations.

    Parameters
    ----------
    view
        A trained model, or what it is in a context.
    targets
        Names.

    Returns
    -------
    DataFrame
        One row a perturbation: ``target, status`` (``control``, ``measured`` or ``unseen``)``, x, y``.
    """
    space = view.predictor().space
    measured = [name for name in view.perturbation_names if space.is_measured(name)]
    unseen = [name for name in targets if not space.is_measured(name)]
    rows = space.embed(measured)
    centre = rows.mean(axis=0)
    axes = np.zeros((2, rows.shape[1]))
    found = np.linalg.svd(rows - centre, full_matrices=False)[2][:2]
    axes[: len(found)] = found
    blocks = [space.control[None], rows, *([space.embed(unseen)] if unseen else [])]
    x, y = axes @ (np.vstack(blocks) - centre).T
    status = ["control", *["measured"] * len(measured), *["unseen"] * len(unseen)]
    return pd.DataFrame({"target": ["control", *measured, *unseen], "status": status, "x": x, "y": y})


MAX_PANELS = 12
HOW_GOOD = "How good are the predictions?"
OF_OWN_GENES = "Its own gene, of which other perturbations say nothing:"
STYLE: Any = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}


def draw_plots(model: DBDiffusion, effects: pd.DataFrame, cells: AnnData, folder: Path) -> list[tuple[str, str]]:
    """Write the plots, a panel for every target in every context; returns file names and captions."""
    panels = _panels(effects)
    shown = dict(list(panels.items())[:MAX_PANELS])
    titled = {title_of(*key): table for key, table in shown.items()}
    seen = {title: table for title, table in titled.items() if table["observed"].notna().any()}
    cut = f" The first {MAX_PANELS} of {len(panels)}." if len(panels) > MAX_PANELS else ""
    columns = _columns(len(model.contexts))
    plots = []
    if seen:
        file = folder / "predicted_against_observed.png"
        _grid(seen, lambda t, ax, name: predicted_against_observed(t, ax, title=name), file, columns)
        caption = (
            f"Predicted against observed effects of held-out targets (one dot a gene, its interval as a line). "
            f"`r` is their correlation; the share in the interval allows for the noise of the observed cells.{cut}"
        )
        plots.append((file.name, caption))
    _grid(titled, lambda t, ax, name: gene_intervals(t, ax, title=name), folder / "gene_intervals.png", columns, height=3.6)
    plots.append(
        ("gene_intervals.png", f"The genes with the largest effects and their 80 % (thick) and 95 % prediction intervals.{cut}")
    )
    _grid(titled, lambda t, ax, name: ranked_effects(t, ax, title=name), folder / "ranked_effects.png", columns)
    caption = f"Effects in order, the darker the surer their signs; ringed: the list at 10 % wrong signs.{cut}"
    plots.append(("ranked_effects.png", caption))
    table = _umap(cells)
    maps = {
        title_of(name, context): table[table["target"].isin([name, ""]) & rows_in(table, "context", context)]
        for name, context in shown
    }
    _grid(maps, lambda t, ax, name: cell_map(t, ax, name), folder / "cells.png", columns)
    plots.append(("cells.png", f"Control, observed and generated cells in one UMAP.{cut}"))
    names = list(dict.fromkeys(target for target, _ in panels))
    places = {name or "": places_of(view, names) for name, view in views_of(model).items()}
    file = folder / "perturbations.png"
    _grid(places, lambda t, ax, name: perturbation_map(t, ax, name), file, columns, height=4.6, width=6.2)
    plots.append(("perturbations.png", "Where perturbations lie; those that lie together are predicted alike."))
    stages = {"vae": pd.DataFrame(), "diffusion": pd.DataFrame()}
    _grid(stages, lambda _t, ax, stage: losses(model.history, ax, stage), folder / "losses.png", len(stages))
    plots.append(("losses.png", "Losses of the two stages."))
    return plots


def _panels(effects: pd.DataFrame) -> dict[tuple[str, str | None], pd.DataFrame]:
    """The table of every target and, inside it, of every context."""
    by_target = {str(name): table for name, table in effects.groupby("target", sort=False)}
    if "context" not in effects:
        return {(name, None): table for name, table in by_target.items()}
    return {
        (name, str(context)): table
        for name, of_target in by_target.items()
        for context, table in of_target.groupby("context", sort=False)
    }


def _columns(n_contexts: int, most: int = 4) -> int:
    """Panels beside each other: as many as fit, so that a row ends where a target does."""
    return most - most % n_contexts if 0 < n_contexts <= most else most


def cells_to_map(
    control: AnnData,
    observed: AnnData,
    generated: AnnData,
    key: str,
    context_key: str | None = None,
    n: int = 150,
    layer: str | None = None,
) -> AnnData:
    """Control, observed and generated cells in one AnnData, at most ``n`` of each kind a target and context (control: 3n).

    The counts of the former two are in a layer, or in X.
    """
    import anndata as ad

    rng = np.random.default_rng(0)
    contexts = [None] if context_key is None else list(dict.fromkeys(generated.obs[context_key].astype(str)))
    targets = list(dict.fromkeys(generated.obs[key].astype(str)))[: -(-MAX_PANELS // len(contexts))]
    blocks = []
    for context in contexts:
        rows = np.flatnonzero(rows_in(control.obs, context_key, context))
        blocks.append(_subset(control, rows, 3 * n, rng, {"target": "", "kind": "control", "context": context}, layer))
        for kind, cells, where in (("observed", observed, layer), ("generated", generated, None)):
            names = cells.obs[key].astype(str).to_numpy()
            is_here = rows_in(cells.obs, context_key, context)
            for name in targets:
                rows = np.flatnonzero(is_here & (names == name))
                if len(rows):
                    what = {"target": name, "kind": kind, "context": context}
                    blocks.append(_subset(cells, rows, n, rng, what, where))
    return ad.concat(blocks, index_unique="-", keys=[str(i) for i in range(len(blocks))])


def write_report(
    folder: Path,
    summary: dict[str, Any],
    table: pd.DataFrame,
    plots: list[tuple[str, str]],
    checked: Mapping[str | None, Checked],
    gaps: Mapping[str | None, pd.DataFrame],
    genes: Sequence[GeneList] = (),
) -> None:
    """Write ``report.md``."""
    placed = summary["embedding_scores"]
    placed = {name: pd.DataFrame(placed if name is None else placed[name]).T for name in checked}
    contexts = [OF_CONTEXTS] if summary["screen"]["contexts"] else []
    run = f"Seed {summary['seed']}. Seconds: {_inline(summary['seconds'])}. Versions: {_inline(summary['versions'])}."
    given = f"Arguments: {_inline(summary['arguments'])}."
    made_of = [] if summary["input"] is None else [f"Input: {_inline(summary['input'])}."]
    good, gap = how_good(summary["targets"], _markdown), gap_lines(gaps)
    sections = [
        *([{"title": HOW_GOOD, "paragraphs": good}] if good else []),
        *([{"title": "Do left-out and hidden perturbations agree?", "paragraphs": gap}] if gap else []),
        {"title": "Targets", "paragraphs": [_markdown(table), HOW_TO_READ, *contexts]},
        *([{"title": "Genes", "paragraphs": [p for one in genes for p in _of_genes(one)]}] if genes else []),
        {"title": TRUSTED, "paragraphs": calibration_lines(checked, _markdown)},
        {"title": "How unseen perturbations were placed", "paragraphs": [_OF_PLACES, _markdown(stacked(placed))]},
        {"title": "Plots", "paragraphs": [p for file, caption in plots for p in (f"![{caption}]({file})", caption)]},
        {"title": "Run", "paragraphs": [run, given, *made_of]},
    ]
    opening = [*told_apart(summary["targets"]), *verdicts(checked), _what(summary)]
    (folder / "report.md").write_text(template("report.md.j2").render(opening=opening, sections=sections))


def template(name: str) -> Template:
    """One of the templates of the job; those of pages escape what they are given."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("dbdiffusion.job"),
        autoescape=".html" in name,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def verdicts(checked: Mapping[str | None, Checked]) -> list[str]:
    """What calibration says of the screen, a paragraph a context."""
    return _by_line({name: one.unseen.verdict for name, one in checked.items() if one.unseen is not None})


def verdicts_of(summary: dict[str, Any]) -> list[str]:
    """Verdicts on the screen from the summary of a job, a line a context.

    Examples
    --------
    >>> verdicts_of({"screen": {"contexts": []}, "calibration": {"verdict": "On this screen ..."}})
    ['On this screen ...']
    """
    of_each = summary["calibration"] if summary["screen"]["contexts"] else {None: summary["calibration"]}
    said = {name: one["verdict"] for name, one in of_each.items() if one["verdict"] is not None}
    return _by_line(said)


def _by_line(verdicts: Mapping[str | None, str]) -> list[str]:
    """Single perturbations and combinations have lines of their own."""
    return [line if name is None else f"{name}: {line}" for name, verdict in verdicts.items() for line in verdict.splitlines()]


def _of_genes(one: GeneList) -> list[str]:
    largest = [] if one.genes.empty else ["The largest effects:", _markdown(one.genes.set_index("gene"))]
    said = [f"### {_cell(one.title)}", one.sentence, *largest]
    return said + ([OF_OWN_GENES, _markdown(one.own.set_index("gene"))] if len(one.own) else [])


def how_good(targets: list[dict[str, Any]], table_of: Callable[[pd.DataFrame], str]) -> list[str]:
    """Paragraphs on the hidden perturbations; none where nothing was hidden.

    Parameters
    ----------
    targets
        Scores.
    table_of
        Turns a table into text.
    """
    held_out = [target for target in targets if target["mse"] is not None]
    if not held_out:
        return []
    frame = pd.DataFrame(held_out)
    frame["mse / mean"] = frame["mse"] / frame["mse_mean_baseline"]
    scores = ["mse / mean", "coverage_95"]
    mean = frame[scores].astype(float).mean()
    everywhere = f", in {frame['context'].nunique()} contexts" if "context" in frame else ""
    said = [
        f"Hidden and predicted: {frame['target'].nunique()} of the measured perturbations{everywhere}. Their squared error is "
        f"{mean['mse / mean']:.2f} times that of the mean of the measured perturbations (below 1 is better), and the 95 % "
        f"intervals hold {mean['coverage_95']:.1%} of the observed effects, the noise of the observation included."
    ]
    if "context" in frame:
        by_context = frame.groupby("context", sort=False)
        said.append(table_of(by_context[scores].mean().assign(hidden=by_context.size())[["hidden", *scores]]))
    return said


_OF_PLACES = (
    "Ways to place a perturbation nobody measured, tried on the measured ones. `relative_to_mean` below 1: better than the "
    "mean of all. Unless another was asked for, the one with the least error is taken."
)
OF_CONTEXTS = (
    "Every context is a screen of its own: effects are contrasts with its control cells, and a prediction is rectified and "
    "judged by the perturbations measured in it. A target that was measured in a context has its observed effect there. Folds "
    "are not retrained and true effects are not shown where there are several contexts."
)
HOW_TO_READ = (
    "Effects are differences of mean log1p counts per 10,000 (natural log) from control. `mse / mean`, `/ zero`, `/ ridge`:"
    " squared error over that of the mean of measured perturbations, of predicting no effect, and of ridge regression from "
    "gene space (for a combination of measured parts: of the sum of their effects); below 1 is better. "
    "`split_half_ceiling`: the correlation a perfect prediction could reach, given the noise of the observed cells. `lam`: "
    "weight of the generated mean; near 0 the generator did not help on this screen. `told_apart`: whether the prediction "
    "differs from what would be said of any target. `n_listed`: genes of the list in which, on average over targets like the "
    "measured ones, at most 10 % have the other sign or no effect (`adj_p_value` at most .1); `n_de`: the same at 5 %. "
    "The gene that a perturbation hits is left out of all scores. An interval is a prediction interval: over "
    "perturbations like the measured ones it holds the effect of a new one in 95 % of cases; it promises nothing about a "
    "single perturbation of another kind."
)


def told_apart(targets: list[dict[str, Any]]) -> list[str]:
    """The first sentence, where targets get the answer that any other would get."""
    same = list(dict.fromkeys(target["target"] for target in targets if target.get("told_apart") is False))
    n = len({target["target"] for target in targets})
    if not same:
        return []
    which = "No target is" if len(same) == n else f"{len(same)} of {n} targets ({', '.join(same[:5])}) are not"
    return [
        f"**{which} told apart from any other: their predictions are what the measured perturbations have in common. "
        "Do not rank them.**",
    ]


def _what(summary: dict[str, Any]) -> str:
    screen = summary["screen"]
    n_targets, contexts = len(summary["predicted"]), screen["contexts"]
    where = f", in each of {len(contexts)} contexts ({', '.join(contexts)})" if contexts else ""
    return (
        f"{screen['n_cells']:,} cells, {screen['n_genes']:,} genes, {screen['n_perturbations']} measured perturbations "
        f"({screen['source']}); {n_targets} targets predicted without any of their cells{where}."
    )


def _markdown(frame: pd.DataFrame) -> str:
    head, *rows = cells_of(frame)
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in [head, ["---"] * len(head), *rows])


def cells_of(frame: pd.DataFrame) -> list[list[str]]:
    """A table as people read it, names of columns first and those of rows in front; columns without any value are left out.

    Examples
    --------
    >>> cells_of(pd.DataFrame({"mse": [0.12345, np.nan], "none": np.nan}, index=["A", "B"]))
    [['', 'mse'], ['A', '0.123'], ['B', '']]
    """
    frame = frame.dropna(axis=1, how="all")
    text = frame.map(lambda v: f"{v:.3g}" if isinstance(v, float) and not np.isnan(v) else "" if pd.isna(v) else str(v))
    rows = [[str(index), *row] for index, row in zip(text.index, text.to_numpy().tolist(), strict=True)]
    return [["", *map(str, text.columns)], *rows]


def _cell(text: str) -> str:
    """A name may hold what ends a cell of a table, or its row."""
    return " ".join(text.replace("|", "\\|").split()) if "|" in text or "\n" in text else text


def _inline(values: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items())


def _grid(
    tables: dict[str, pd.DataFrame],
    draw: Callable[[pd.DataFrame, Axes, str], Axes],
    file: Path,
    columns: int,
    height: float = 3.0,
    width: float = 3.2,
) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, len(tables))
    rows = -(-len(tables) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, (name, table) in zip(axes, tables.items(), strict=False):
            draw(table, ax, name)
        for ax in axes[len(tables) :]:
            ax.set_axis_off()
        figure.savefig(file, dpi=130)


def _subset(
    cells: AnnData, rows: np.ndarray, n: int, rng: np.random.Generator, what: dict[str, str | None], layer: str | None
) -> AnnData:
    import anndata as ad

    rows = np.sort(rng.choice(rows, min(n, len(rows)), replace=False))
    obs = pd.DataFrame(what, index=cells.obs_names[rows])
    counts = cells.X if layer is None else cells.layers[layer]
    return ad.AnnData(counts[rows].astype(np.float32), obs=obs, var=pd.DataFrame(index=cells.var_names))


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
