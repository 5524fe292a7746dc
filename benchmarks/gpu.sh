#!/usr/bin/env bash
# Checks a machine with a CUDA GPU in at most eight minutes: what tests say of accelerators, where latents are standardised,
# what training and sampling cost beside the bare network, and how long the main job takes with 100,000 cells.
#
#     benchmarks/gpu.sh [OUT]           # with a GPU; results in the folder OUT (default: gpu-check)
#     benchmarks/gpu.sh --quick [OUT]   # the same steps on a CPU, small, to see that they run
set -euo pipefail
cd "$(dirname "$0")/.."
device=cuda quick="" cells=100000
if [ "${1:-}" = "--quick" ]; then
  device=cpu quick=--quick cells=1000
  shift
fi
out="${1:-gpu-check}"
mkdir -p "$out"
python="${PYTHON:-.venv/bin/python}"
if [ "$device" = cuda ] && ! "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
  echo "There is no CUDA GPU here that torch can use; run with --quick to try the script on a CPU." >&2
  exit 2
fi

echo "== accelerators in the tests"
"$python" -m pytest -q tests/conformance/test_training.py -k "accelerator or gpu or device" | tee "$out/tests.txt"

echo "== latents are standardised on the device"
"$python" - "$device" <<'PYTHON' | tee "$out/latents.txt"
import sys

import numpy as np
import torch

from dbdiffusion import DBDiffusion, simulate_screen

device = sys.argv[1]
adata = simulate_screen(n_genes=100, n_perturbations=20, n_cells_per_perturbation=40, n_control_cells=200)
DBDiffusion.setup_anndata(adata, batch_key="batch")
model = DBDiffusion(adata)
model.train(max_epochs=3, max_epochs_diffusion=3, accelerator=device, devices=1, enable_progress_bar=False)
predictor = model.predictor()
diffusion = predictor.generator.diffusion
conditions = predictor.generator.conditions.of(predictor.space.control[None]).to(diffusion.mean.device)
latents = torch.as_tensor(model.get_latent_representation(), device=diffusion.mean.device)
z = diffusion.standardise(latents, conditions.expand(len(latents), -1))
if diffusion.mean.device.type != device or z.device.type != device:
    sys.exit(f"the latents are on {z.device}, not on {device}")
names = [gene for gene in adata.var_names if gene not in set(model.perturbation_names)][:2]
effect = model.predict_effects(names)["effect"]
model.to_device("cpu")
on_cpu = model.predict_effects(names)["effect"]
print(f"device {z.device}; standard deviation {z.std().item():.2f}; largest difference to the CPU "
      f"{np.abs(effect - on_cpu).max():.1e} of effects of {np.abs(on_cpu).mean():.1e}")
PYTHON

echo "== overhead beside the bare network"
"$python" benchmarks/overhead.py --device "$device" $quick --out "$out/overhead.json"

echo "== main job, $cells cells"
"$python" - "$device" "$cells" <<'PYTHON' | tee "$out/job.txt"
import sys
import time

from dbdiffusion import DBDiffusion, simulate_screen

device, cells = sys.argv[1], int(sys.argv[2])
n_perturbations = 20 if cells < 10_000 else 200
each = cells // (n_perturbations + 10)
adata = simulate_screen(
    n_genes=200 if cells < 10_000 else 2000, n_perturbations=n_perturbations, n_cells_per_perturbation=each,
    n_control_cells=10 * each,
)
DBDiffusion.setup_anndata(adata, batch_key="batch")
model = DBDiffusion(adata)
options = {"accelerator": device, "devices": 1, "enable_progress_bar": False}
seconds = {}
for name, work in {
    "VAE": lambda: model.train_vae(max_epochs=2 if cells < 10_000 else None, **options),
    "diffusion": lambda: model.train_diffusion(max_epochs=2 if cells < 10_000 else None, **options),
    "references and 50 targets": lambda: model.predict_effects(
        [gene for gene in adata.var_names if gene not in set(model.perturbation_names)][:50]
    ),
    "10,000 generated cells": lambda: model.generate(model.perturbation_names[0], n_cells=10_000),
}.items():
    start = time.perf_counter()
    work()
    seconds[name] = round(time.perf_counter() - start, 1)
print(f"{adata.n_obs} cells x {adata.n_vars} genes, seconds: {seconds}, together {sum(seconds.values()):.1f}")
PYTHON
echo "results in $out"
