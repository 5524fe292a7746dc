"""The figure of the README: `python docs/readme_figure.py`, in a minute on two cores. Writes `docs/_static/overview.png`."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import scvi

from dbdiffusion import DBDiffusion, plotting, simulate_screen
from dbdiffusion.data import hold_out

FILE = Path(__file__).parent / "_static" / "overview.png"
SHOWN = 14  # genes of the middle panel

screen = simulate_screen(n_genes=120, n_perturbations=40, n_cells_per_perturbation=40, n_control_cells=300, n_modules=5, seed=7)
truth = screen.uns["true_effects"]
hidden = truth.index[::10].tolist()
measured, _ = hold_out(screen, hidden)

scvi.settings.seed = 0
DBDiffusion.setup_anndata(measured, batch_key="batch")
model = DBDiffusion(measured)
model.train(max_epochs=40, max_epochs_diffusion=60)
effects = model.predict_effects(hidden)
effects["observed"] = [truth.loc[target, gene] for target, gene in zip(effects["target"], effects["variable"], strict=True)]
observed = model.observed_effects().pivot(index="target", columns="variable", values="effect")

plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.5, 3.6), layout="constrained")

names = truth.index[:24].tolist()
genes = measured.var["module"].sort_values(kind="stable").index[::2]
shown = observed.reindex(names)[genes]
largest = float(np.nanquantile(np.abs(shown), 0.99))
left.imshow(np.ma.masked_invalid(shown), cmap="RdBu_r", vmin=-largest, vmax=largest, aspect="auto", interpolation="nearest")
for row in (names.index(name) for name in hidden if name in names):
    left.text(len(genes) / 2, row, "not measured", ha="center", va="center", fontsize=7, color="#4a5568")
left.set(xticks=[], yticks=[], xlabel="genes", ylabel="knock-outs", title="1. A screen: effects of measured knock-outs")

plotting.gene_intervals(effects.drop(columns="observed"), middle, hidden[0], SHOWN)
middle.set_title("2. A knock-out nobody measured, with intervals")
plotting.predicted_against_observed(effects, right, hidden[0])
right.set(xlabel="true effect", title="3. The truth, which only a simulation knows")

figure.savefig(FILE, dpi=110)
others = effects[effects["variable"] != effects["target"]]
inside = (others["ci_low"] <= others["observed"]) & (others["observed"] <= others["ci_high"])
print(f"{FILE}: {FILE.stat().st_size} bytes; 95 % intervals hold {inside.groupby(others['target']).mean().round(3).to_dict()}")
