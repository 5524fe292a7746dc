"""The main job: from counts to a report on perturbations that were not measured."""

from __future__ import annotations

import json
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dbdiffusion.job import _answers
from dbdiffusion.job._answers import gene_lists
from dbdiffusion.job._asked import prepare
from dbdiffusion.job._calibration import check_calibration, draw_calibration
from dbdiffusion.job._evaluate import gaps_of, of_contexts, score_frame, views_of, warn_of
from dbdiffusion.job._html import write_html
from dbdiffusion.job._output import MODEL, STORE, SUMMARY, check_output, check_space, provenance, whole_folder
from dbdiffusion.job._report import cells_to_map, draw_plots, write_report

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from dbdiffusion.job._answers import GeneList
    from dbdiffusion.job._asked import Asked
    from dbdiffusion.job._calibration import Checked

logger = logging.getLogger("dbdiffusion")

BYTES_OF_A_ROW = 150  # of a table of effects
BYTES_STORED = 25  # of a target and gene in the store, compressed

STEPS = {  # of the job, in words
    "vae": "Stage one of two: training the autoencoder (VAE)",
    "diffusion": "Stage two of two: training the diffusion",
    "cross_fit": "Predicting every measured perturbation as if it had not been measured",
    "predict": "Predicting the targets",
    "calibration": "Checking whether intervals and p-values hold",
    "store": "Writing the store of effects",
    "plots": "Drawing",
}


class HalfDoneError(RuntimeError):
    """The job failed after the training; what was done by then is kept.

    Examples
    --------
    >>> issubclass(HalfDoneError, RuntimeError)
    True
    """


def run_job(arguments: Namespace) -> dict[str, Any]:
    """Run the main job and write its folder; returns the summary.

    Raises
    ------
    FileExistsError
        If the output folder may not be replaced.
    ValueError, KeyError, FileNotFoundError
        For what cannot be, before any training.
    HalfDoneError
        For whatever goes wrong after the training.

    Examples
    --------
    >>> from dbdiffusion.job import parse_arguments
    >>> run_job(parse_arguments(["--h5ad", "no_such_file.h5ad", "--targets", "MYC", "--out", "no_such_folder"]))
    Traceback (most recent call last):
    FileNotFoundError: 'no_such_file.h5ad' does not exist.
    """
    where = {"overwrite": arguments.overwrite, "source": arguments.h5ad}
    check_output(arguments.out, **where)
    clock = _Clock()
    asked = prepare(arguments)
    with whole_folder(arguments.out, **where) as folder:
        check_space(folder, _least_bytes(asked))
        _train(asked, arguments, clock)
        summary = provenance(arguments) | {"finished": False}
        try:
            asked.model.save(folder / MODEL)
            _write_summary(folder, summary)
            return _report(asked, arguments, folder, summary, clock)
        except Exception as error:
            done = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
            msg = f"The job failed after the training, {type(error).__name__}: {error}. {str(arguments.out)!r} holds {done}."
            raise HalfDoneError(msg) from error


def _report(asked: Asked, arguments: Namespace, folder: Path, summary: dict[str, Any], clock: _Clock) -> dict[str, Any]:
    """Tables first, then what is made of them, plots last: the later, the less is lost."""
    model, targets = asked.model, asked.targets
    with clock.timing("cross_fit"):
        if arguments.cross_fitting == "k_fold":
            model.cross_fit(max_epochs=arguments.max_epochs_diffusion, seed=arguments.seed)
            model.save(folder / MODEL, overwrite=True)
        views = views_of(model)
        for view in views.values():
            view.reference_predictions(arguments.cross_fitting, seed=arguments.seed)
    key = arguments.perturbation_key
    control = asked.rest[(asked.rest.obs[key].astype(str) == arguments.control).to_numpy()]
    with clock.timing("predict"):
        way = {"cross_fitting": arguments.cross_fitting, "seed": arguments.seed}
        effects = model.predict_effects(targets, **way)
        held_out = _answers.observe_hidden(views, control, asked, arguments.seed)
        effects = _answers.with_observed(effects, held_out, asked.truth)
        _write_table(effects, folder / "effects.csv")
        trust = model.target_confidence(targets, **way)
        _write_table(trust, folder / "targets.csv")
        _write_table(_answers.everything(views, asked, effects), folder / "differential_expression.csv")
        generated = _answers.generate(views, targets, arguments)
    with clock.timing("calibration"):
        checked = {name: check_calibration(view, arguments.cross_fitting, arguments.seed) for name, view in views.items()}
    scores = _answers.scores_of(views, effects, held_out)
    genes = gene_lists(effects, {target: model.parts_of(target) for target in targets})
    gaps = gaps_of(views, effects, held_out, {name: one.unseen for name, one in checked.items()})
    warn_of(gaps)
    summary |= {
        "screen": _describe(asked, arguments),
        "predicted": _answers.predicted(effects),
        "strategy": of_contexts({name: {t: view.strategy_of(t) for t in targets} for name, view in views.items()}),
        "weights": effects.attrs.get("weights", {}),
        "embedding_scores": of_contexts(
            {name: view.embedding_scores().to_dict(orient="index") for name, view in views.items()}
        ),
        "targets": scores,
        "evidence_gap": of_contexts({name: gap.to_dict(orient="index") for name, gap in gaps.items()}),
        "calibration": of_contexts({name: one.to_dict() for name, one in checked.items()}),
    }
    _write_both(folder, summary, scores, [], checked, gaps, genes, clock)
    generated.write_h5ad(folder / "generated.h5ad", compression="gzip")
    if arguments.all_genes or asked.listed:
        with clock.timing("store"):
            model.write_effects(folder / STORE, None if arguments.all_genes else asked.listed, **way)
    mapped = cells_to_map(control, asked.cells, generated, key, arguments.context_key, layer=arguments.layer)
    with clock.timing("plots"):
        plots = [*draw_plots(model, effects, mapped, folder), *draw_calibration(checked, folder)]
    summary["finished"] = True
    _write_both(folder, summary, scores, plots, checked, gaps, genes, clock)
    write_html(folder, summary, effects, trust, plots, checked, gaps, genes, readable(scores))
    return summary


def readable(scores: list[dict[str, Any]]) -> pd.DataFrame:
    """Scores as people read them.

    Examples
    --------
    >>> from dbdiffusion.job import score_targets
    >>> table = readable(score_targets(model, model.predict_effects(unseen, n_cells=64), None))
    >>> table.index.tolist() == unseen, "lam" in table
    (True, True)
    """
    frame = score_frame(scores)
    order = ["context", "n_cells", "pearson_effect", "split_half_ceiling", "mse", "mse / mean", "mse / zero", "mse / ridge",
             "coverage_95", "width_95", "lam", "told_apart", "n_listed", "n_de", "de_precision", "de_recall"]  # fmt: skip
    return frame[[column for column in order if column in frame]]


class _Clock:
    def __init__(self) -> None:
        self._start, self._parts = time.perf_counter(), {}  # type: ignore[var-annotated]

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Time what is done inside; log what it is before, and how long it took."""
        logger.info("%s ...", STEPS[part])
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


def _train(asked: Asked, arguments: Namespace, clock: _Clock) -> None:
    bars: dict[str, Any] = {"enable_progress_bar": not arguments.quiet}
    with clock.timing("vae"):
        asked.model.train_vae(max_epochs=arguments.max_epochs, **bars)
    with clock.timing("diffusion"):
        asked.model.train_diffusion(max_epochs=arguments.max_epochs_diffusion, **bars)


def _least_bytes(asked: Asked) -> int:
    """What the two tables, the store of listed targets and the weights take at least."""
    n_contexts, n_targets = max(1, len(asked.model.contexts)), len(asked.targets)
    n_rows = asked.rest.n_vars * n_contexts * (2 * n_targets + len(asked.model.perturbation_names))
    n_stored = asked.rest.n_vars * len(asked.listed)
    of_weights = sum(value.nbytes for value in asked.model.module.state_dict().values())
    return BYTES_OF_A_ROW * n_rows + BYTES_STORED * n_stored + of_weights


def _describe(asked: Asked, arguments: Namespace) -> dict[str, Any]:
    source = f"simulated, alignment {arguments.alignment:g}" if arguments.h5ad is None else arguments.h5ad.name
    return {
        "n_cells": asked.rest.n_obs,
        "n_genes": asked.rest.n_vars,
        "n_perturbations": len(asked.model.perturbation_names),
        "contexts": list(asked.model.contexts),
        "source": source,
    }


def _write_table(table: pd.DataFrame, file: Path) -> None:
    table.to_csv(file, index=False, float_format="%.6g")


def _write_both(
    folder: Path,
    summary: dict[str, Any],
    scores: list[dict[str, Any]],
    plots: list[tuple[str, str]],
    checked: Mapping[str | None, Checked],
    gaps: Mapping[str | None, pd.DataFrame],
    genes: Sequence[GeneList],
    clock: _Clock,
) -> None:
    summary["seconds"] = clock.seconds()
    _write_summary(folder, summary)
    write_report(folder, summary, readable(scores), plots, checked, gaps, genes)


def _write_summary(folder: Path, summary: dict[str, Any]) -> None:
    (folder / SUMMARY).write_text(json.dumps(summary, indent=2, default=_jsonable) + "\n")


def _jsonable(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
