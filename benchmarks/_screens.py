"""Screens that benchmarks run on, each with a way to score a held-out perturbation."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scvi

from dbdiffusion import DBDiffusion
from dbdiffusion.data import simulate_screen

MIN_EXPRESSING = 5  # below it an observed mean has an atom at zero, and no normal noise can describe it
DATA = Path(__file__).parent.parent.parent / "shared" / "data"


@dataclass(frozen=True)
class Screen:
    """Cells to train on (half of control apart where the truth is unknown) and what held-out effects are compared with."""

    name: str
    train: ad.AnnData
    reference: pd.DataFrame  # perturbations x genes: true effects, or observed against the control cells set apart
    noise: pd.DataFrame  # sampling variance of the reference; zero for the truth
    judged: pd.DataFrame  # where coverage counts: five cells of the perturbation can be expected to express the gene
    setup: dict

    @property
    def is_noisy(self) -> bool:
        """Whether held-out effects are compared with observed ones, and not with the truth."""
        return bool(self.noise.to_numpy().any())

    @property
    def candidates(self) -> list[str]:
        """Perturbations that can be held out."""
        return list(self.reference.index)


def simulated(alignment: float, n_perturbations: int, seed: int, **options) -> Screen:
    adata = simulate_screen(alignment=alignment, n_perturbations=n_perturbations, seed=seed, **options)
    truth = adata.uns.pop("true_effects")
    name = f"simulated a={alignment:g} P={n_perturbations}"
    return Screen(name, adata, truth, 0 * truth, truth.notna(), {"batch_key": "batch"})


def real(name: str, seed: int, day: int | None = None) -> Screen:
    """Renge (pooled, or one day) or norman (single perturbations); control cells are halved, so errors are independent."""
    adata = ad.read_h5ad(DATA / {"renge": "renge_hipsc.h5ad", "norman": "norman_subset.h5ad"}[name])
    setup: dict = {"batch_key": "day"} if name == "renge" and day is None else {}
    if day is not None:
        adata = adata[adata.obs["day"].astype(str) == str(day)].copy()
    if name == "norman":
        setup = {"size_factor_key": "total_counts"}
        adata = adata[~adata.obs["perturbation"].str.contains("+", regex=False)].copy()
    train, compared = apart_from_training(adata, seed)
    DBDiffusion.setup_anndata(compared, **setup)
    table = DBDiffusion(compared, n_latent=2).observed_effects()
    effect = table.pivot(index="target", columns="variable", values="effect")[adata.var_names]
    se = table.pivot(index="target", columns="variable", values="se")[adata.var_names]
    label = name if day is None else f"{name} day {day}"
    return Screen(label, train, effect, se**2, judged_where(compared, effect), setup)


def screens_of(options: argparse.Namespace, seed: int) -> list[Screen]:
    """The screens that :func:`screen_arguments` ask for, small simulated ones if it shall be quick."""
    if options.screen == "simulated":
        changes = {"n_genes": 150, "n_cells_per_perturbation": 30} if options.quick else {}
        return [simulated(a, p, seed, **changes) for p in options.n_perturbations for a in options.alignment]
    if options.screen == "renge-days":
        return [real("renge", seed, day) for day in (2, 3, 4, 5)]
    return [real(options.screen, seed)]


def apart_from_training(adata: ad.AnnData, seed: int) -> tuple[ad.AnnData, ad.AnnData]:
    """Cells to train on and cells to compare with: all perturbed cells in both, half of the control cells in each."""
    control = np.flatnonzero(adata.obs["perturbation"] == "control")
    apart = np.random.default_rng(seed).permutation(control)[: len(control) // 2]
    is_apart = np.isin(np.arange(adata.n_obs), apart)
    rest = np.ones(adata.n_obs, dtype=bool)
    rest[np.setdiff1d(control, apart)] = False
    return adata[~is_apart].copy(), adata[rest].copy()


def judged_where(compared: ad.AnnData, effect: pd.DataFrame) -> pd.DataFrame:
    """Where five of a perturbation's cells can be expected to express a gene."""
    share = np.asarray((compared.X > 0).mean(axis=0)).ravel()
    sizes = compared.obs["perturbation"].value_counts().reindex(effect.index).to_numpy()
    return pd.DataFrame(np.outer(sizes, share) >= MIN_EXPRESSING, index=effect.index, columns=effect.columns)


def folds_of(screen: Screen, options: argparse.Namespace, seed: int) -> list[list[str]]:
    """Perturbations to hold out together: a dozen of a large simulated screen (each seed is a screen of its own) or folds."""
    if screen.name.startswith("simulated") and len(screen.candidates) >= 5 * options.n_held_out:
        return [shuffled(screen.candidates, seed)[: options.n_held_out]]
    return in_folds(screen.candidates, options, seed)


def shuffled(names: list[str], seed: int) -> list[str]:
    return [str(name) for name in np.random.default_rng(seed).permutation(names)]


def in_folds(names: list[str], options: argparse.Namespace, seed: int) -> list[list[str]]:
    order = shuffled(names, seed)
    folds = [order[k :: options.folds] for k in range(options.folds)]
    return folds[: 1 if options.quick else options.first_folds]


def trained(train: ad.AnnData, screen: Screen, seed: int, options: argparse.Namespace) -> DBDiffusion:
    """A model with the defaults, trained on some cells of a screen; one kept in ``options.models`` is loaded instead."""
    quick = options.quick
    folder = options.models / _name_of(train, screen, seed, quick) if options.models else None
    if folder and folder.exists():
        return DBDiffusion.load(folder, adata=train)
    scvi.settings.seed = seed
    DBDiffusion.setup_anndata(train, **screen.setup)
    model = DBDiffusion(train)
    if screen.name == "norman":
        model.set_strategy("mean")  # no target gene is measured: nothing else can place a single perturbation
    epochs = 3 if quick else None
    model.train(max_epochs=epochs, max_epochs_diffusion=epochs, enable_progress_bar=False)
    if folder:
        model.save(folder)
    return model


def _name_of(train: ad.AnnData, screen: Screen, seed: int, quick: bool) -> str:
    """The same for the same cells, genes, perturbations and setup."""
    what = [*train.obs_names, *train.var_names, *train.obs["perturbation"].astype(str), repr(screen.setup)]
    digest = hashlib.sha256("\n".join(what).encode()).hexdigest()[:12]
    return f"{screen.name.replace(' ', '-')}-seed{seed}-{digest}{'-quick' if quick else ''}"


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few epochs, one seed: checks that it runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0, help="so that a run can be split over processes, see combine.py")
    parser.add_argument("--out", type=Path, help="JSON file; default: benchmarks/results/<name>.json")
    return parser


def seeds_of(options: argparse.Namespace) -> range:
    """Those that :func:`arguments` ask for, one if it shall be quick."""
    return range(options.first_seed, options.first_seed + (1 if options.quick else options.seeds))


def training_arguments(description: str) -> argparse.ArgumentParser:
    """Those of a benchmark that trains models with the defaults."""
    parser = arguments(description)
    parser.add_argument("--models", type=Path, help="folder of trained models to use again; new ones are added to it")
    return parser


def held_out_arguments(description: str) -> argparse.ArgumentParser:
    """Those of a benchmark that holds perturbations out."""
    parser = training_arguments(description)
    parser.add_argument("--n-held-out", type=int, default=12, help="of a simulated screen at least five times as large")
    parser.add_argument("--folds", type=int, default=5, help="of the perturbations of a real or small screen")
    parser.add_argument("--first-folds", type=int, help="run only so many of them")
    return parser


def screen_arguments(description: str, *more: str) -> argparse.ArgumentParser:
    """Those of a benchmark that holds perturbations of any screen out."""
    parser = held_out_arguments(description)
    parser.add_argument("--screen", choices=["simulated", "renge", "renge-days", "norman", *more], default="simulated")
    parser.add_argument("--alignment", type=float, nargs="+", default=[1.0, 0.5, 0.0])
    parser.add_argument("--n-perturbations", type=int, nargs="+", default=[60])
    return parser
