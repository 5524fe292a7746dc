"""What does inference cost for thousands of perturbations, given means and variances?

    python benchmarks/inference_cost.py

Random effects and three predictions of 2,000 references on 20,000 genes, with a second reference set beside all references:
tuning, leave-one-out errors and the law; then intervals and p-values of 500 targets. Seconds, and the peak of memory over that
of the input.
"""

from __future__ import annotations

import resource
import time

import numpy as np
from _results import write
from _screens import arguments

from dbdiffusion.inference import References, fit_rectifier

N_TARGETS = 500


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--n-references", type=int, default=2000)
    parser.add_argument("--n-genes", type=int, default=20_000)
    options = parser.parse_args()
    shape = (100, 1000) if options.quick else (options.n_references, options.n_genes)
    rng = np.random.default_rng(0)

    def draw() -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    signal = draw()
    predicted = {"generated": signal + draw(), "ridge": signal + draw(), "knn": draw()}
    references = References(
        effect=signal + draw(),
        variance=np.full(shape, 0.1, np.float32),
        control_variance=np.full(shape[1], 0.01, np.float32),
        predicted=predicted,
        own_genes=tuple(np.array([i % shape[1]]) for i in range(shape[0])),
    )
    before = peak_gigabytes()
    start = time.perf_counter()
    rectifier = fit_rectifier(references)
    fitted = time.perf_counter()
    targets = {name: values[:N_TARGETS] for name, values in predicted.items()}
    estimate = rectifier.estimate(targets)
    estimate.interval(), estimate.p_value()
    row = {
        "n_references": shape[0], "n_genes": shape[1], "n_targets": len(estimate.effect), "seconds_fit": fitted - start,
        "seconds_estimate": time.perf_counter() - fitted, "gigabytes_input": before, "gigabytes_peak": peak_gigabytes(),
    }  # fmt: skip
    print({name: round(value, 2) for name, value in row.items()})
    print("written:", write("inference_cost", [row], options).name)


if __name__ == "__main__":
    main()
