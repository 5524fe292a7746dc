"""The main job: from counts to a report on perturbations that were not measured."""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scvi

from dbdiffusion.data import hold_out, read_screen, simulate_screen
from dbdiffusion.job._calibration import Checked, check_calibration, draw_calibration
from dbdiffusion.job._contexts import labelled, of_contexts, rows_in, views_of
from dbdiffusion.job._evaluate import HeldOut, observe, score_frame, score_targets
from dbdiffusion.job._gap import evidence_gap
from dbdiffusion.job._output import check_output, whole_folder
from dbdiffusion.job._report import cells_to_map, draw_plots, write_report
from dbdiffusion.model import DBDiffusion

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from pathlib import Path

    from anndata import AnnData

logger = logging.getLogger("dbdiffusion")

SIMULATED_HOLD_OUT = 8
MIN_LEFT = 2  # measured perturbations of a context, so that there is a direction to learn
PACKAGES = ("dbdiffusion", "scvi-tools", "torch", "anndata", "diffusers", "numpy")


def run_job(arguments: Namespace) -> dict[str, Any]:
    """Run the main job and write its folder; returns the summary."""
    check_output(arguments.out, overwrite=arguments.overwrite)
    clock = _Clock()
    screen = (
        simulate_screen(alignment=arguments.alignment, seed=arguments.seed)
        if arguments.h5ad is None
        else read_screen(arguments.h5ad)
    )
    setup = _setup(arguments)
    DBDiffusion.setup_anndata(screen.copy(), **setup)  # every complaint about the data comes before any work
    hidden = _choose_hidden(screen, arguments)
    if not hidden and not arguments.targets:
        msg = "Nothing to predict: name `--hold-out`, `--hold-out-n` or `--targets`."
        raise ValueError(msg)
    rest, cells = hold_out(screen, hidden, arguments.perturbation_key)
    _check_what_is_left(rest.obs, arguments)
    scvi.settings.seed = arguments.seed
    model = _train(rest, setup, arguments, clock)
    targets = [*hidden, *arguments.targets]
    with clock.timing("cross_fit"):
        if arguments.cross_fitting == "k_fold":
            model.cross_fit(max_epochs=arguments.max_epochs_diffusion, seed=arguments.seed)
        views = views_of(model)
        for view in views.values():
            view.reference_predictions(arguments.cross_fitting, seed=arguments.seed)
    with clock.timing("predict"):
        way = {"cross_fitting": arguments.cross_fitting, "seed": arguments.seed}
        effects = model.predict_effects(targets, **way)
        everything = _everything(views, rest.obs, targets, arguments, way)
        generated = _generate(views, targets, arguments)
    control = rest[(rest.obs[arguments.perturbation_key].astype(str) == arguments.control).to_numpy()]
    held_out = {name: _observe(view, name, control, cells, setup, arguments.seed) for name, view in views.items()}
    with clock.timing("calibration"):
        checked = {name: check_calibration(view, arguments.cross_fitting, arguments.seed) for name, view in views.items()}
    effects = _with_observed(effects, held_out, None if model.contexts else screen.uns.get("true_effects"))
    scores = _scores(views, effects, held_out)
    gaps = _gaps(views, effects, held_out, checked)
    summary = {
        "seed": arguments.seed,
        "versions": {package: version(package) for package in PACKAGES},
        "seconds": clock.seconds(),
        "screen": _describe(rest, model, arguments),
        "strategy": of_contexts({name: {t: view.strategy_of(t) for t in targets} for name, view in views.items()}),
        "weights": effects.attrs.get("weights", {}),
        "embedding_scores": of_contexts(
            {name: view.embedding_scores().to_dict(orient="index") for name, view in views.items()}
        ),
        "targets": scores,
        "evidence_gap": of_contexts({name: gap.to_dict(orient="index") for name, gap in gaps.items()}),
        "calibration": of_contexts({name: one.to_dict() for name, one in checked.items()}),
    }
    with whole_folder(arguments.out, overwrite=arguments.overwrite) as folder:
        _write(folder, model, effects, everything, generated)
        mapped = cells_to_map(control, cells, generated, arguments.perturbation_key, arguments.context_key)
        plots = [*draw_plots(model, effects, mapped, folder), *draw_calibration(checked, folder)]
        summary["seconds"] = clock.seconds()
        write_report(folder, summary, readable(scores), plots, checked, gaps)
        (folder / "summary.json").write_text(json.dumps(summary, indent=2, default=_jsonable) + "\n")
    return summary


def readable(scores: list[dict[str, Any]]) -> pd.DataFrame:
    """Scores as people read them."""
    frame = score_frame(scores)
    order = ["context", "n_cells", "pearson_effect", "split_half_ceiling", "mse", "mse / mean", "mse / zero", "mse / ridge",
             "coverage_95", "width_95", "lam", "n_de", "de_precision", "de_recall"]  # fmt: skip
    return frame[[column for column in order if column in frame]]


class _Clock:
    def __init__(self) -> None:
        self._start, self._parts = time.perf_counter(), {}  # type: ignore[var-annotated]

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Time what is done inside, and log it."""
        start = time.perf_counter()
        yield
        self._parts[part] = time.perf_counter() - start
        logger.info("%s: %.1f s", part, self._parts[part])

    def seconds(self) -> dict[str, float]:
        """Seconds of every part, and in total since the clock was made."""
        return {
            **{k: round(v, 2) for k, v in self._parts.items()},
            "total": round(time.perf_counter() - self._start, 2),
        }


def _setup(arguments: Namespace) -> dict[str, Any]:
    if arguments.context_key is not None and arguments.cross_fitting == "k_fold":
        msg = "`--cross-fitting k_fold` is not for several contexts: folds are not retrained there. Leave one of the two out."
        raise ValueError(msg)
    batch_key = arguments.batch_key or ("batch" if arguments.h5ad is None else None)
    keys = ("perturbation_key", "control", "layer", "context_key", "size_factor_key", "embedding_key")
    return {**{key: getattr(arguments, key) for key in keys}, "batch_key": batch_key}


def _choose_hidden(screen: AnnData, arguments: Namespace) -> list[str]:
    n = arguments.hold_out_n
    if n is None:
        n = SIMULATED_HOLD_OUT if arguments.h5ad is None and not arguments.hold_out and not arguments.targets else 0
    names = sorted(set(screen.obs[arguments.perturbation_key].astype(str)) - {arguments.control, *arguments.hold_out})
    candidates = [name for name in names if name in screen.var_names] or names
    if n > len(candidates) - 1:
        msg = f"`--hold-out-n` must leave a perturbation to learn from: at most {len(candidates) - 1}, got {n}."
        raise ValueError(msg)
    chosen = np.random.default_rng(arguments.seed).choice(candidates, n, replace=False) if n else []
    return [*arguments.hold_out, *map(str, sorted(chosen))]


def _check_what_is_left(obs: pd.DataFrame, arguments: Namespace) -> None:
    if arguments.context_key is None:
        return
    names = obs[arguments.perturbation_key].astype(str)
    names = names.where(names != arguments.control)
    left = names.groupby(obs[arguments.context_key].astype(str)).nunique()
    lacking = left[left < MIN_LEFT].to_dict()
    if lacking:
        msg = (
            f"Every context must keep at least {MIN_LEFT} measured perturbations to learn from, but after hiding these keep "
            f"fewer: {dict(list(lacking.items())[:5])}. Hide fewer, or drop the cells of those contexts."
        )
        raise ValueError(msg)


def _train(rest: AnnData, setup: dict[str, Any], arguments: Namespace, clock: _Clock) -> DBDiffusion:
    DBDiffusion.setup_anndata(rest, **setup)
    model = DBDiffusion(rest)
    model.set_strategy(arguments.strategy)
    bars: dict[str, Any] = {"enable_progress_bar": not arguments.quiet}
    with clock.timing("vae"):
        model.train_vae(max_epochs=arguments.max_epochs, **bars)
    with clock.timing("diffusion"):
        model.train_diffusion(max_epochs=arguments.max_epochs_diffusion, **bars)
    return model


def _everything(
    views: dict[str | None, Any], obs: pd.DataFrame, targets: list[str], arguments: Namespace, way: dict[str, Any]
) -> pd.DataFrame:
    """Effects of the targets, and of what was measured in the context: what was measured elsewhere may have no place in it."""
    tables = []
    for name, view in views.items():
        here = obs.loc[rows_in(obs, arguments.context_key, name), arguments.perturbation_key]
        measured = [known for known in view.perturbation_names if known in set(here.astype(str))]
        names = list(dict.fromkeys([*measured, *targets]))
        tables.append(labelled(view.differential_expression_ppi(names, **way), name))
    return pd.concat(tables, ignore_index=True)


def _generate(views: dict[str | None, Any], targets: list[str], arguments: Namespace) -> AnnData:
    import anndata as ad

    cells = {name: view.generate(targets, arguments.n_cells, seed=arguments.seed) for name, view in views.items()}
    if None in cells:
        return cells[None]
    return ad.concat(cells, label=arguments.context_key, index_unique="-", uns_merge="first")


def _observe(
    view: Any, context: str | None, control: AnnData, cells: AnnData, setup: dict[str, Any], seed: int
) -> HeldOut | None:
    import anndata as ad

    cells, control = (part[rows_in(part.obs, setup["context_key"], context)] for part in (cells, control))
    if cells.n_obs == 0:
        return None
    return observe(view, ad.concat([control, cells], join="outer", merge="first", uns_merge="first"), setup, seed)


def _with_observed(
    effects: pd.DataFrame, held_out: dict[str | None, HeldOut | None], truth: pd.DataFrame | None
) -> pd.DataFrame:
    attrs = effects.attrs
    columns = ["target", "variable", *({"context"} & set(effects))]
    tables = [labelled(one.observed, name) for name, one in held_out.items() if one is not None]
    observed = np.nan
    if tables:
        by_key = pd.concat(tables).set_index(columns)["effect"]
        observed = by_key.reindex(pd.MultiIndex.from_frame(effects[columns])).to_numpy()
    effects = effects.assign(observed=observed)
    if truth is not None:
        effects["true_effect"] = truth.stack().reindex(pd.MultiIndex.from_frame(effects[columns])).to_numpy()
    effects.attrs = attrs
    return effects


def _scores(
    views: dict[str | None, Any], effects: pd.DataFrame, held_out: dict[str | None, HeldOut | None]
) -> list[dict[str, Any]]:
    scores = []
    for name, view in views.items():
        where = {} if name is None else {"context": name}
        for score in score_targets(view, effects[rows_in(effects, "context", name)], held_out[name]):
            scores.append({"target": score["target"], **where, **score})
    return scores


def _gaps(
    views: dict[str | None, Any],
    effects: pd.DataFrame,
    held_out: dict[str | None, HeldOut | None],
    checked: dict[str | None, Checked],
) -> dict[str | None, pd.DataFrame]:
    gaps = {}
    for name, view in views.items():
        table = effects[rows_in(effects, "context", name)]
        if name is not None:  # what tells how the target was rectified is that of its context
            table.attrs = {**effects.attrs, "rectifier_mean": effects.attrs.get("rectifier_means", {}).get(name, {})}
        gaps[name] = evidence_gap(view, table, held_out[name], checked[name].unseen)
    return gaps


def _describe(rest: AnnData, model: DBDiffusion, arguments: Namespace) -> dict[str, Any]:
    source = f"simulated, alignment {arguments.alignment:g}" if arguments.h5ad is None else arguments.h5ad.name
    return {
        "n_cells": rest.n_obs,
        "n_genes": rest.n_vars,
        "n_perturbations": len(model.perturbation_names),
        "contexts": list(model.contexts),
        "source": source,
    }


def _write(folder: Path, model: DBDiffusion, effects: pd.DataFrame, everything: pd.DataFrame, generated: AnnData) -> None:
    effects.to_csv(folder / "effects.csv", index=False, float_format="%.6g")
    everything.to_csv(folder / "differential_expression.csv", index=False, float_format="%.6g")
    generated.write_h5ad(folder / "generated.h5ad", compression="gzip")
    model.save(str(folder / "model"))


def _jsonable(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
