"""Is every default the best choice, and how much does it matter?

    python benchmarks/ablations.py --alignment 1 --seeds 6
    python benchmarks/ablations.py --factors guidance "solver and steps"

One factor at a time is moved away from the defaults. Each seed is a simulated screen of its own with one fold of perturbations
held out, and all variants share it. `generated` is the raw generator, `rectified` the default prediction; both are squared
errors against the truth over that of the mean of the measured perturbations, the target's own gene left out. `own` is the
correlation of generated with true effects when the generator is handed the target's own embedding. Differences from the default
are paired over seeds; `beside the default` says whether that of `rectified` is more than chance (5 %, each variant by itself:
of forty that change nothing two or so will be called).
"""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scvi
import torch
from _rectified import Rectified
from _results import write
from _screens import Screen, arguments, seeds_of, shuffled, simulated
from scipy import stats

from dbdiffusion import DBDiffusion
from dbdiffusion.data import hold_out
from dbdiffusion.diffusion import VELOCITY, Parametrisation
from dbdiffusion.inference import fit_rectifier
from dbdiffusion.metrics import effect_scores
from dbdiffusion.model import OWN_PARTS
from dbdiffusion.predict import GENERATED, GenerationOptions, Recipe

if TYPE_CHECKING:
    import argparse

DEFAULT = "default"


@dataclass(frozen=True)
class Variant:
    """What differs from the defaults; the last four share the trained model of the default."""

    model: dict = field(default_factory=dict)
    vae: dict = field(default_factory=dict)
    train: dict = field(default_factory=dict)
    predicts: str = "velocity"
    left_out: str = ""
    predict: dict = field(default_factory=dict)
    strategy: str = "auto"
    weight: float | None = None
    has_generator: bool = True

    @property
    def needs_training(self) -> bool:
        """Whether the trained default will not do."""
        return bool(self.model or self.vae or self.train or self.left_out or self.predicts != "velocity")

    @property
    def has_own_vae(self) -> bool:
        """Whether stage one differs too."""
        return bool(self.vae) or "n_latent" in self.model


def plan(**options: float) -> Variant:
    return Variant(train={"plan_kwargs": options})


FACTORS: dict[str, dict[str, Variant]] = {
    DEFAULT: {DEFAULT: Variant()},
    "latent size": {str(n): Variant(model={"n_latent": n}) for n in (5, 10, 40, 80)},
    "embedding size": {str(n): Variant(model={"n_embedding": n}) for n in (4, 8, 16, 64)},
    "network": {
        "width 64": Variant(model={"n_diffusion_hidden": 64}),
        "width 256": Variant(model={"n_diffusion_hidden": 256}),
        "1 block": Variant(model={"n_diffusion_blocks": 1}),
        "6 blocks": Variant(model={"n_diffusion_blocks": 6}),
    },
    "moving average": {f"decay {d:g}": plan(ema_decay=d) for d in (0.0, 0.9, 0.98)},  # a ramp keeps it below .991 here
    "condition dropout": {f"{d:g}": plan(condition_dropout=d) for d in (0.0, 0.05, 0.3)},
    "learning rate": {f"{lr:g}": plan(lr=lr) for lr in (5e-4, 5e-3)},
    "training": {
        **{f"{n} steps": plan(n_steps=n) for n in (250, 500, 2000)},
        "500 steps of 1,024 cells": Variant(train={"batch_size": 1024, "plan_kwargs": {"n_steps": 500}}),
    },
    "training of the VAE": {
        **{f"{share:g} of the epochs": Variant(vae={"share": share}) for share in (0.25, 0.5, 2.0)},
        "half the steps of 128 cells": Variant(vae={"share": 0.25, "batch_size": 128}),
        "half the steps of 512 cells": Variant(vae={"share": 1.0, "batch_size": 512}),
        "half the epochs at rate 4e-3": Variant(vae={"share": 0.5, "plan_kwargs": {"lr": 4e-3}}),
    },
    "prediction type": {name: Variant(predicts=name) for name in ("noise", "clean latent")},
    "z_0": {"posterior mean": plan(draws_latents=False)},
    "standardisation": {"none": Variant(left_out="standardisation")},
    "linear part": {"inside the network": Variant(left_out="linear part")},
    "guidance": {f"{s:g}": Variant(predict={"guidance_scale": s}) for s in (0.0, 0.5, 1.5, 2.5)},
    "solver and steps": {
        **{f"dpm++ {n}": Variant(predict={"n_steps": n}) for n in (5, 10, 25, 50)},
        "ddim 100": Variant(predict={"sampler": "ddim", "n_steps": 100}),
        "ddpm 200": Variant(predict={"sampler": "ddpm", "n_steps": 200}),
        "sde-dpm++ 40": Variant(predict={"sampler": "sde-dpm++", "n_steps": 40}),
    },
    "strategy": {name: Variant(strategy=name) for name in ("cluster", "knn", "ridge", "mean")},
    "weight of the generated mean": {
        "0, linear predictors stay": Variant(has_generator=False),
        **{f"{w:g}, no linear predictors": Variant(weight=w) for w in (0.0, 0.5, 1.0)},
    },
}


def without(part: str, model: DBDiffusion, latents: np.ndarray) -> None:
    """Leave one of the statistics out of the linear part that a training fitted."""
    diffusion = model.module.diffusion
    linear, scale, mean, shift = diffusion.linear, diffusion.scale, diffusion.mean, diffusion.null_shift
    if part == "standardisation":
        scale = torch.full_like(scale, 1 + 1e-6)  # exactly one would say that nothing was fitted
    else:
        linear, shift = torch.zeros_like(linear), torch.zeros_like(shift)
        mean, scale = (torch.as_tensor(values) for values in (latents.mean(axis=0), latents.std(axis=0)))
    diffusion.set_linear_part(mean, scale, linear, diffusion.origin.clone(), diffusion.condition_scale.clone(), shift)


PARAMETRISATIONS = {
    "noise": Parametrisation(
        lambda z_0, noise, alpha, sigma: noise,
        # nearest to noise an error of the network would count up to 20,000 times; there the mean, zero, is the best guess
        lambda z_t, noise, alpha, sigma: torch.where(alpha < 0.1, 0.0, (z_t - sigma * noise) / alpha),
    ),
    "clean latent": Parametrisation(lambda z_0, noise, alpha, sigma: z_0, lambda z_t, z_0, alpha, sigma: z_0),
}


def trained(
    screen: Screen, held_out: list[str], seed: int, variant: Variant, epochs: int | None, vae: DBDiffusion | None
) -> DBDiffusion:
    """A model of the variant; unless it changes stage one, that of the default is taken as it is."""
    if vae is None or variant.has_own_vae:
        rest, _ = hold_out(screen.train, held_out)
        scvi.settings.seed = seed
        DBDiffusion.setup_anndata(rest, **screen.setup)
        model = DBDiffusion(rest, **variant.model)
        model.train_vae(enable_progress_bar=False, **vae_options(variant, rest.n_obs, epochs))
    else:
        model = with_stage_one_of(vae, variant.model)
    scvi.settings.seed = seed
    model.module.diffusion.use_parametrisation({"velocity": VELOCITY, **PARAMETRISATIONS}[variant.predicts])
    if variant.left_out:
        model.train_diffusion(max_epochs=1, enable_progress_bar=False)  # fits the linear part
        without(variant.left_out, model, model.get_latent_representation())
        scvi.settings.seed = seed
        model.train_diffusion(max_epochs=epochs, enable_progress_bar=False, warm_start=True)
    else:
        model.train_diffusion(max_epochs=epochs, enable_progress_bar=False, **variant.train)
    return model


def vae_options(variant: Variant, n_cells: int, epochs: int | None) -> dict:
    """Arguments of stage one: a share of the default's number of epochs, or so many as are asked for."""
    options = dict(variant.vae)
    share = options.pop("share", None)
    if epochs is None and share is not None:
        epochs = max(1, round(share * float(np.clip(2000 * 256 / (0.9 * n_cells), 10, 400))))
    return {"max_epochs": epochs, **options}


def with_stage_one_of(vae: DBDiffusion, options: dict) -> DBDiffusion:
    """A model with another diffusion on the same VAE and split of cells."""
    model = DBDiffusion(vae.adata, **options)
    weights = {name: value for name, value in vae.module.state_dict().items() if not name.startswith(OWN_PARTS)}
    model.module.load_state_dict(model.module.state_dict() | weights)
    for name in ("is_vae_trained_", "is_trained_", "history_", "train_indices", "validation_indices", "test_indices"):
        setattr(model, name, getattr(vae, name))
    return model


def score(model: DBDiffusion, screen: Screen, held_out: list[str], variant: Variant, seed: int) -> dict[str, float]:
    model.set_strategy(variant.strategy)
    predictor = model.predictor()
    space, observed = predictor.space, predictor.screen.observed.effect
    options = GenerationOptions(seed=seed, **variant.predict)
    truth = screen.reference.loc[held_out].to_numpy()
    start = time.perf_counter()
    predictions = {
        "generated": predictor.generator.effects(space.embed(held_out), space.control, 512, options)[0],
        "own": predictor.generator.effects(space.effects.to_embedding(truth), space.control, 512, options)[0],
        "mean": np.repeat(observed.mean(axis=0)[None], len(held_out), axis=0),
    }
    rectified = Rectified(predictor, held_out, Recipe(options))
    counted = {
        name: values for name, values in rectified.references.predicted.items() if variant.has_generator or name != GENERATED
    }
    estimate, weight = rectified.estimate(lambda references: fit_rectifier(references.with_predicted(counted), variant.weight))
    predictions["rectified"] = estimate.effect
    own = np.stack([screen.reference.columns == name for name in held_out])
    significant = np.abs(truth) > 0.1
    scores = {
        name: effect_scores(values, truth, observed.mean(axis=0), significant, own) for name, values in predictions.items()
    }
    mse = {name: float(np.mean(values["mse"])) for name, values in scores.items()}
    return {
        "generated": mse["generated"] / mse["mean"],
        "rectified": mse["rectified"] / mse["mean"],
        "pearson generated": float(np.nanmean(scores["generated"]["pearson_mean"])),
        "pearson rectified": float(np.nanmean(scores["rectified"]["pearson_mean"])),
        "own": float(np.nanmean(scores["own"]["pearson"])),
        "lam": weight,
        "predict_seconds": time.perf_counter() - start,
    }


def trials(screen: Screen, held_out: list[str], seed: int, options: argparse.Namespace) -> list[dict]:
    rows = []
    epochs = 2 if options.quick else None

    def note(factor: str, level: str, model: DBDiffusion, variant: Variant, seconds: float) -> None:
        rows.append(
            {"alignment": options.alignment, "factor": factor, "level": level, "seed": seed, "train_seconds": seconds}
            | score(model, screen, held_out, variant, seed)
        )

    default = trained(screen, held_out, seed, Variant(), epochs, None)
    note(DEFAULT, DEFAULT, default, Variant(), 0.0)
    chosen = [(f, level, v) for f in options.factors if f != DEFAULT for level, v in FACTORS[f].items()]
    for factor, level, variant in chosen:
        start = time.perf_counter()
        model = trained(screen, held_out, seed, variant, epochs, default) if variant.needs_training else default
        note(factor, level, model, variant, time.perf_counter() - start)
    return rows


def summarise(rows: list[dict]) -> pd.DataFrame:
    """Means over seeds, and the paired difference from the default with its standard error."""
    frame = pd.DataFrame(rows)
    screen, variant = ["alignment", "seed"], ["alignment", "factor", "level"]
    default = frame[frame["factor"] == DEFAULT].set_index(screen)
    groups = frame.groupby(variant, sort=False)
    table = groups.mean().drop(columns="seed").assign(screens=groups.size())
    for name in ("generated", "rectified"):
        difference = frame[name] - default[name].reindex(pd.MultiIndex.from_frame(frame[screen])).to_numpy()
        grouped = difference.groupby([frame[key] for key in variant], sort=False)
        table[f"{name} - default"], table[f"{name} se"] = grouped.mean(), grouped.sem()
    beyond = np.abs(table["rectified - default"]) > stats.t.ppf(0.975, table["screens"] - 1) * table["rectified se"]
    sign = np.sign(table["rectified - default"]).map({-1.0: "better", 0.0: "", 1.0: "worse"})
    table["beside the default"] = np.where(beyond, sign, "")
    return table


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--alignment", type=float, default=1.0)
    parser.add_argument("--n-perturbations", type=int, default=60)
    parser.add_argument("--factors", nargs="+", choices=list(FACTORS), default=list(FACTORS))
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    rows: list[dict] = []
    for seed in seeds_of(options):
        changes = {"n_genes": 150, "n_cells_per_perturbation": 30} if options.quick else {}
        n_perturbations = 20 if options.quick else options.n_perturbations
        screen = simulated(options.alignment, n_perturbations, seed, **changes)
        held_out = shuffled(screen.candidates, seed)[: n_perturbations // 5]
        rows += trials(screen, held_out, seed, options)
        print(summarise(rows).round(3).to_string(), flush=True)
    print("written:", write("ablations", rows, options).name)


if __name__ == "__main__":
    main()
