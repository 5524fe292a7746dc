"""What does inference cost where perturbations are many?

    python benchmarks/inference_cost.py

``fit``: random effects and three predictions of 2,000 references on 20,000 genes; tuning, left-out errors and their law; then
``estimate``: intervals and p-values of 500 targets. ``lists``: 1,000 references on 2,000 genes, what comes on top of their fit:
the rule of the gene lists, the law of signs, expected accuracy, and q-values and sign rates of 500 targets. ``evidence``: a
screen of 1,000 perturbations, 2,000 genes and 100,000 cells, networks trained for one epoch: what is read of the cells for the
folds, then scores of strategies, predictions of all references, and one target. Seconds of wall and of processor (two threads
at most), and the peak of memory over that before.
"""

from __future__ import annotations

import resource
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from _results import write
from _screens import arguments

from dbdiffusion import DBDiffusion, simulate_screen
from dbdiffusion.inference import References, discoveries_of, fit_confidence, fit_rectifier, fit_sign_law, signs_of, supports
from dbdiffusion.screen import ControlHalves

if TYPE_CHECKING:
    from collections.abc import Iterator

N_TARGETS = 500


@contextmanager
def measured(rows: list[dict], part: str, **size: int) -> Iterator[None]:
    """A row of time and memory."""
    memory, wall, processor = peak_gigabytes(), time.perf_counter(), time.process_time()
    yield
    row = {"part": part, **size, "seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}
    rows.append(row | {"gigabytes_more": peak_gigabytes() - memory})
    print({name: round(value, 2) if isinstance(value, float) else value for name, value in rows[-1].items()}, flush=True)


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def drawn(shape: tuple[int, int]) -> References:
    """Two predictions that tell something, and one that tells nothing."""
    rng = np.random.default_rng(0)

    def draw() -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    signal = draw()
    return References(
        effect=signal + draw(),
        variance=np.full(shape, 0.1, np.float32),
        control_variance=np.full(shape[1], 0.01, np.float32),
        predicted={"generated": signal + draw(), "ridge": signal + draw(), "knn": draw()},
        own_genes=tuple(np.array([i % shape[1]]) for i in range(shape[0])),
        coherence=rng.uniform(0.2, 1, shape[0]),
    )


def of_lists(rows: list[dict], shape: tuple[int, int]) -> None:
    references, size = drawn(shape), {"perturbations": shape[0], "genes": shape[1]}
    rng, listable = np.random.default_rng(1), np.ones(shape[1], dtype=bool)
    half = 0.1 * rng.standard_normal((6, 1, shape[1]))
    halves = ControlHalves(half, -half, np.ones((shape[0], 1)))
    rectifier = fit_rectifier(references)
    predicted = rectifier.estimate({name: values[:N_TARGETS] for name, values in references.predicted.items()}).effect
    with measured(rows, "lists", **size):
        rule = discoveries_of(rectifier, references, listable, halves)
        rule.q_values(predicted, np.ones(predicted.shape, dtype=bool), references.coherence[:N_TARGETS])
        law = fit_sign_law(signs_of(rectifier, references, listable))
        support = supports(rectifier.tau**2, references.typical_noise, references.coherence[:N_TARGETS, None])
        law.wrong(predicted, rectifier.tau**2, rectifier.control_variance, support)
        fit_confidence(rectifier, references, rng.uniform(size=shape[0]), listable, halves).left_out()


def of_evidence(rows: list[dict], n_perturbations: int, n_genes: int, n_cells: int) -> None:
    cells = {"n_cells_per_perturbation": n_cells // n_perturbations - 5, "n_control_cells": 5 * n_perturbations}
    adata = simulate_screen(n_perturbations=n_perturbations, n_genes=n_genes, **cells)
    adata.uns.pop("true_effects")
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    model = DBDiffusion(adata)
    model.train(max_epochs=1, max_epochs_diffusion=1, enable_progress_bar=False)
    size = {"perturbations": n_perturbations, "genes": n_genes, "cells": adata.n_obs}
    unseen = next(name for name in adata.var_names if name not in model.perturbation_names)
    with measured(rows, "evidence: folds", **size):
        model.leave_out_folds()
    with measured(rows, "evidence: scores", **size):
        model.embedding_scores()
    with measured(rows, "evidence: references and a target", **size):
        model.predict_effects([unseen])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--n-references", type=int, default=2000)
    parser.add_argument("--n-genes", type=int, default=20_000)
    parser.add_argument("--parts", nargs="+", default=["fit", "lists", "evidence"])
    options = parser.parse_args()
    rows: list[dict] = []
    if "fit" in options.parts:
        shape = (100, 1000) if options.quick else (options.n_references, options.n_genes)
        references, size = drawn(shape), {"perturbations": shape[0], "genes": shape[1]}
        with measured(rows, "fit", **size):
            rectifier = fit_rectifier(references)
        with measured(rows, "estimate", **size):
            estimate = rectifier.estimate({name: values[:N_TARGETS] for name, values in references.predicted.items()})
            estimate.interval(), estimate.p_value()
        del references, rectifier, estimate
    if "lists" in options.parts:
        of_lists(rows, (100, 300) if options.quick else (1000, 2000))
    if "evidence" in options.parts:
        of_evidence(rows, *((20, 60, 1500) if options.quick else (1000, 2000, 100_000)))
    print("written:", write("inference_cost", rows, options).name)


if __name__ == "__main__":
    main()
