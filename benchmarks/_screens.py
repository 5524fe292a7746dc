"""Screens that benchmarks run on, each with a way to score a held-out perturbation."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scvi
from _thinned import SETTINGS, thinned
from make_sergio import sergio_fresh

from dbdiffusion import DBDiffusion, simulate_screen

MIN_EXPRESSING = 5  # below it an observed mean has an atom at zero, and no normal noise can describe it
DATA = Path(__file__).parent.parent.parent / "shared" / "data"
FILES = {"renge": "renge_hipsc.h5ad", "norman": "norman_subset.h5ad", "sergio": "sergio_grn.h5ad"}
NETWORKS = {  # settings of simulated networks; nothing was ever tuned on them
    "sparse": {},  # a knock-out changes 3 % of the genes (median), a tenth of them more than 15 %
    "dense": {"out_degree": 60.0},  # 8 % and 26 %
    "outside": {"measured_targets": 0.5},  # half of the knocked-out genes are not measured; the others are held out
}
THINNED = tuple(f"thinned-{name}" for name in SETTINGS)
SCREENS = ("simulated", "network", "sergio", "sergio-fresh", "renge", "renge-days", "renge-unplaced", "norman", *THINNED)
N_UNPLACED = 17  # of the 23 knocked-out genes of renge


@dataclass(frozen=True)
class Screen:
    """Cells to train on (half of control apart where the truth is unknown) and what held-out effects are compared with."""

    name: str
    train: ad.AnnData
    reference: pd.DataFrame  # perturbations x genes: true effects, or observed against the control cells set apart
    noise: pd.DataFrame  # sampling variance of the reference; zero for the truth
    judged: pd.DataFrame  # where coverage counts: five cells of the perturbation can be expected to express the gene
    setup: dict
    apart: ad.AnnData | None = None  # the control cells set apart
    only_placed: bool = False  # hold only perturbations out whose gene is measured

    @property
    def is_noisy(self) -> bool:
        """Whether held-out effects are compared with observed ones, and not with the truth."""
        return bool(self.noise.to_numpy().any())

    @property
    def candidates(self) -> list[str]:
        """Perturbations that can be held out."""
        names = list(self.reference.index)
        return [name for name in names if name in self.train.var_names] if self.only_placed else names


def simulated(alignment: float, n_perturbations: int, seed: int, **options) -> Screen:
    adata = simulate_screen(alignment=alignment, n_perturbations=n_perturbations, seed=seed, **options)
    truth = adata.uns.pop("true_effects")
    name = f"simulated a={alignment:g} P={n_perturbations}"
    return Screen(name, adata, truth, 0 * truth, truth.notna(), {"batch_key": "batch"})


def network(setting: str, seed: int, **options) -> Screen:
    """A simulated regulatory network, see :func:`dbdiffusion.simulate_screen`; only genes that are measured are held out."""
    adata = simulate_screen(mechanism="network", seed=seed, **NETWORKS[setting], **options)
    truth = adata.uns.pop("true_effects")
    setup = {"batch_key": "batch"}
    return Screen(f"network {setting}", adata, truth, 0 * truth, truth.notna(), setup, only_placed=True)


def real(name: str, seed: int, day: int | None = None) -> Screen:
    """Renge (pooled, or one day) or norman (single perturbations)."""
    adata = ad.read_h5ad(DATA / FILES[name])
    setup: dict = {"batch_key": "day"} if name == "renge" and day is None else {}
    if day is not None:
        adata = adata[adata.obs["day"].astype(str) == str(day)].copy()
    if name == "norman":
        setup = {"size_factor_key": "total_counts"}
        adata = adata[~adata.obs["perturbation"].str.contains("+", regex=False)].copy()
    return against_other_half(name if day is None else f"{name} day {day}", adata, seed, setup)


def sergio(seed: int) -> Screen:
    """A regulatory network of SERGIO, knocked out gene by gene; no batch."""
    return against_other_half("sergio", ad.read_h5ad(DATA / FILES["sergio"]), seed, {})


def sergio_of_its_own(seed: int, folder: Path | None) -> Screen:
    """A new network of SERGIO for each seed, kept in a folder if there is one."""
    return against_other_half("sergio fresh", sergio_fresh(seed, folder), seed, {})


def real_cells(name: str, alignment: float, seed: int) -> Screen:
    """Cells of renge, norman or SERGIO with made-up effects, see ``_thinned.py``."""
    adata, truth = thinned(DATA / FILES[name], SETTINGS[name], alignment, seed)
    setup = {"size_factor_key": "total_counts"}
    return Screen(f"thinned {name} a={alignment:g}", adata, truth, 0 * truth, truth.notna(), setup)


def renge_unplaced(seed: int) -> Screen:
    """Renge, days pooled, where 17 of the 23 knocked-out genes are not measured, others for each seed; the six are held out."""
    adata = ad.read_h5ad(DATA / FILES["renge"])
    adata.obs["total_counts"] = np.asarray(adata.X.sum(axis=1)).ravel()  # of all genes, as in a real file
    targets = shuffled(sorted(set(adata.obs["perturbation"].astype(str)) - {"control"}), seed)
    adata = adata[:, ~adata.var_names.isin(targets[:N_UNPLACED])].copy()
    setup = {"batch_key": "day", "size_factor_key": "total_counts"}
    return replace(against_other_half("renge unplaced", adata, seed, setup), only_placed=True)


def against_other_half(name: str, adata: ad.AnnData, seed: int, setup: dict) -> Screen:
    """A screen without known truth: control cells are halved between model and observation, so errors are independent."""
    train, compared = apart_from_training(adata, seed)
    apart = compared[(compared.obs["perturbation"] == "control").to_numpy()].copy()
    effect, variance = effects(compared, setup)
    return Screen(name, train, effect, variance, judged_where(compared, effect), setup, apart)


def effects(adata: ad.AnnData, setup: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Observed effects (P, G) and their sampling variances, genes in the order of ``var_names``."""
    adata = adata.copy()
    DBDiffusion.setup_anndata(adata, **setup)
    table = DBDiffusion(adata, n_latent=2).observed_effects()
    wide = {
        column: table.pivot(index="target", columns="variable", values=column)[adata.var_names] for column in ("effect", "se")
    }
    return wide["effect"], wide["se"] ** 2


def screens_of(options: argparse.Namespace, seed: int) -> list[Screen]:
    """The screens that :func:`screen_arguments` ask for, small simulated ones if it shall be quick."""
    changes = {"n_genes": 150, "n_cells_per_perturbation": 30} if options.quick else {}
    if options.screen == "simulated":
        return [simulated(a, p, seed, **changes) for p in options.n_perturbations for a in options.alignment]
    if options.screen == "network":
        return [network(setting, seed, **changes) for setting in options.networks]
    if options.screen in THINNED:
        return [real_cells(options.screen.removeprefix("thinned-"), a, seed) for a in options.alignment]
    if options.screen == "renge-days":
        return [real("renge", seed, day) for day in (2, 3, 4, 5)]
    one = {
        "sergio": sergio,
        "renge-unplaced": renge_unplaced,
        "sergio-fresh": partial(sergio_of_its_own, folder=options.models),
    }
    return [one[options.screen](seed) if options.screen in one else real(options.screen, seed)]


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
    """Perturbations to hold out together: one hold-out a seed of a screen with many perturbations, or folds."""
    family, n = screen.name.split()[0], len(screen.candidates)
    if family == "sergio":
        return [shuffled(screen.candidates, seed)[: n // 5]]
    if family == "network" or (family == "simulated" and n >= 5 * options.n_held_out):
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
        model = DBDiffusion.load(folder, adata=train)
        model.leave_out_folds()  # an older version may have kept it
        return model
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
    parser.add_argument("--screen", choices=[*SCREENS, *more], default="simulated")
    parser.add_argument("--alignment", type=float, nargs="+", default=[1.0, 0.5, 0.0])
    parser.add_argument("--n-perturbations", type=int, nargs="+", default=[60])
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), help="of --screen network")
    return parser


def network_seeds_argument(parser: argparse.ArgumentParser) -> None:
    """Of benchmarks that train several neural networks on the same hold-out."""
    parser.add_argument("--network-seeds", type=int, nargs="+", help="of the models of a hold-out; default: the screen's seed")


def network_seeds_of(options: argparse.Namespace, seed: int) -> list[int]:
    return options.network_seeds or [seed]
