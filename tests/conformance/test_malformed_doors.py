"""Whatever comes in by another door ends in a result or a worded error: cells, MuData, files and options."""

import copy
import shutil
import warnings

import anndata as ad
import h5py
import lightning.pytorch as pl
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
from dressed import fresh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import QUIET, tiny_guides, tiny_model, tiny_screen
from worded import fingerprint, result_or_worded_error

from dbdiffusion import DBDiffusion, compare, rectify
from dbdiffusion.__main__ import main
from dbdiffusion.data import hold_out, read_screen

A_FIFTH = 2 * settings.default.max_examples // 5  # of the examples of both files, 2,000 with --slow
MANY = settings(deadline=None, max_examples=A_FIFTH, suppress_health_check=list(HealthCheck))
SIZES = {"n_genes": 12, "n_perturbations": 4, "n_cells_per_perturbation": 8, "n_control_cells": 14, "n_modules": 2}
NAN, INF = float("nan"), float("inf")


def small_screen():
    return tiny_screen(**SIZES)


@pytest.fixture(scope="module")
def model():
    """Both stages trained; it must stay as it is."""
    model = fresh(small_screen(), n_hidden=4, n_latent=2, n_embedding=2, n_diffusion_hidden=4, n_folds=2)
    model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET)
    return model


@pytest.fixture(scope="module")
def pretrained():
    adata = small_screen()
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    theirs = scvi.model.SCVI(adata, n_hidden=4, n_latent=2, gene_likelihood="nb")
    theirs.train(max_epochs=1, **QUIET)
    return theirs


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    model.save(folder / "model", save_anndata=True)
    model.export_weights(folder / "weights")
    small_screen().write_h5ad(folder / "screen.h5ad")
    small_screen().write_zarr(folder / "screen.zarr")
    mudata.MuData({"rna": small_screen()}).write(folder / "screen.h5mu")
    with h5py.File(folder / "foreign.h5", "w") as file:
        file["matrix"] = np.eye(3)
    return folder


def with_x(adata, change):
    adata.X = change(adata.X)
    return adata


def with_obs(adata, name, values):
    adata.obs[name] = values
    return adata


def screen_and_guides(change=lambda x: x, target="target"):
    screen = small_screen()
    guides = with_x(tiny_guides(screen), change)
    guides.var = guides.var.rename(columns={"target": target})
    return mudata.MuData({"rna": screen, "guides": guides})


CELLS = {
    "sound": small_screen,
    "a view": lambda: small_screen()[::2],
    "one cell": lambda: small_screen()[:1].copy(),
    "no cell": lambda: small_screen()[:0].copy(),
    "genes reversed": lambda: small_screen()[:, ::-1].copy(),
    "a gene less": lambda: small_screen()[:, 1:].copy(),
    "no gene": lambda: small_screen()[:, :0].copy(),
    "no X": lambda: ad.AnnData(obs=small_screen().obs, var=small_screen().var),
    "log": lambda: with_x(small_screen(), np.log1p),
    "NaN": lambda: with_x(small_screen(), lambda x: x * NAN),
    "negative": lambda: with_x(small_screen(), lambda x: -x),
    "zeros": lambda: with_x(small_screen(), lambda x: x * 0),
    "texts": lambda: with_x(small_screen(), lambda x: np.full(x.shape, "a", dtype=object)),
    "dense": lambda: with_x(small_screen(), lambda x: x.toarray()),
    "COO": lambda: with_x(small_screen(), lambda x: sp.csc_matrix(x)),
    "other batches": lambda: with_obs(small_screen(), "batch", "elsewhere"),
    "missing batches": lambda: with_obs(small_screen(), "batch", np.nan),
    "other perturbations": lambda: with_obs(small_screen(), "perturbation", "GENE11"),
    "numbers as perturbations": lambda: with_obs(small_screen(), "perturbation", 3),
    "no columns": lambda: ad.AnnData(small_screen().X, var=small_screen().var),
    "columns twice": lambda: ad.AnnData(small_screen().X, obs=pd.concat([small_screen().obs] * 2, axis=1)),
    "MuData": lambda: mudata.MuData({"rna": small_screen()}),
    "guides": screen_and_guides,
    "guides as 0/1": lambda: screen_and_guides(lambda x: (x > 5).astype(np.float32)),
    "guides as booleans": lambda: screen_and_guides(lambda x: x > 5),
    "no guides": lambda: screen_and_guides(lambda x: x * 0),
    "negative guides": lambda: screen_and_guides(lambda x: -x),
    "NaN guides": lambda: screen_and_guides(lambda x: x.toarray() * NAN),
    "guides without targets": lambda: screen_and_guides(target="gene"),
    "None": lambda: None,
    "a path": lambda: "screen.h5ad",
    "a table": lambda: small_screen().to_df(),
    "a matrix": lambda: small_screen().X,
    "a list": lambda: [small_screen()],
    "a number": lambda: 3,
    "the class": lambda: ad.AnnData,
}
MODALITIES = st.sampled_from(
    [
        None, {}, {"rna_layer": "rna"}, {"rna_layer": "nowhere"}, {"rna_layer": None}, "rna", ["rna"], 3,
        {"rna_layer": "rna", "guide_layer": "guides"}, {"rna_layer": "rna", "perturbation_key": "rna", "batch_key": "rna"},
        {"rna_layer": "rna", "guide_layer": "rna"}, {"nothing": "rna"}, {"rna_layer": 3},
    ]
)  # fmt: skip
GUIDES = st.fixed_dictionaries(
    {"modalities": MODALITIES},
    optional={
        "min_guide_counts": st.sampled_from([0, 1, 3, -1, NAN, 1e38, "3", None]),
        "min_guide_share": st.sampled_from([0, 0.1, 1, 2, NAN, "a", None]),
        "guide_target_key": st.sampled_from([None, "target", "missing", 3]),
        "control": st.sampled_from(["control", "missing", None]),
    },
)
DOORS = {
    "setup_anndata": lambda _m, cells, *_: DBDiffusion.setup_anndata(cells, batch_key="batch"),
    "setup and model": lambda _m, cells, *_: (DBDiffusion.setup_anndata(cells), tiny_model(cells, n_folds=2)),
    "setup_mudata": lambda _m, cells, _f, _p, options: DBDiffusion.setup_mudata(cells, **options),
    "model": lambda _m, cells, *_: DBDiffusion(cells),
    "model.adata": lambda model, cells, *_: setattr(copy.copy(model), "adata", cells),
    "load": lambda _m, cells, folder, *_: DBDiffusion.load(folder / "model", cells),
    "load_weights": lambda _m, cells, folder, *_: DBDiffusion.load_weights(folder / "weights", cells),
    "load_query_data": lambda model, cells, *_: DBDiffusion.load_query_data(cells, model),
    "prepare_query_anndata": lambda model, cells, *_: DBDiffusion.prepare_query_anndata(cells, model, inplace=False),
    "from_scvi_model": lambda _m, cells, _f, pretrained, _o: DBDiffusion.from_scvi_model(pretrained, adata=cells, n_folds=2),
    "latents": lambda model, cells, *_: model.get_latent_representation(cells),
    "elbo": lambda model, cells, *_: model.get_elbo(cells),
    "expression": lambda model, cells, *_: model.get_normalized_expression(cells),
    "observed effects": lambda model, cells, *_: model.observed_effects(cells),
    "hold_out": lambda _m, cells, *_: hold_out(cells, "GENE01"),
}


@MANY
@given(st.sampled_from(sorted(DOORS)), st.sampled_from(sorted(CELLS)), GUIDES)
def test_any_cells_are_let_in_or_refused_in_words(model, folder, pretrained, door, kind, options):
    cells = CELLS[kind]()
    holders = [cells, *cells.mod.values()] if isinstance(cells, mudata.MuData) else [cells]
    sound = [one for one in holders if isinstance(one, ad.AnnData) and one.X is not None]
    before, own = [fingerprint(one) for one in sound], fingerprint(model.adata)
    with result_or_worded_error():
        DOORS[door](model, cells, folder, pretrained, options)
    assert [fingerprint(one) for one in sound] == before
    assert fingerprint(model.adata) == own


FILES = ["screen.h5ad", "screen.zarr", "screen.h5mu", "foreign.h5", "model/model.pt", "model/adata.h5ad", "weights/model.json"]
READERS = {
    "read_screen": lambda folder, name: read_screen(folder / name),
    "load": lambda folder, _name: DBDiffusion.load(folder / "model"),
    "load without cells": lambda folder, _name: DBDiffusion.load(folder / "model", adata=False),
    "load_registry": lambda folder, _name: DBDiffusion.load_registry(folder / "model"),
    "load_weights": lambda folder, _name: DBDiffusion.load_weights(folder / "weights"),
    "load a file": lambda folder, name: DBDiffusion.load(folder / name),
    "load_weights of a file": lambda folder, name: DBDiffusion.load_weights(folder / name),
}
DAMAGES = {
    "none": lambda file, _where: file,
    "cut off": lambda file, where: file.write_bytes(file.read_bytes()[: int(where * file.stat().st_size)]),
    "zeros": lambda file, where: file.write_bytes(zeroed(file.read_bytes(), where)),
    "a bit": lambda file, where: file.write_bytes(flipped(file.read_bytes(), where)),
    "longer": lambda file, _where: file.write_bytes(file.read_bytes() + b"more"),
    "empty": lambda file, _where: file.write_bytes(b""),
    "text": lambda file, _where: file.write_text("cell,GENE00\nc1,3\n"),
    "JSON": lambda file, _where: file.write_text("[1, 2]"),
    "foreign HDF5": lambda file, _where: shutil.copy(file.parents[1] / "foreign.h5", file),
    "another screen": lambda file, _where: shutil.copy(file.parents[1] / "screen.h5ad", file),
    "a MuData": lambda file, _where: shutil.copy(file.parents[1] / "screen.h5mu", file),
    "gone": lambda file, _where: file.unlink(),
    "a folder": lambda file, _where: (file.unlink(), file.mkdir()),
}


def zeroed(content, where):
    place = int(where * len(content))
    return content[:place] + bytes(min(100, len(content) - place)) + content[place + 100 :]


def flipped(content, where):
    place = int(where * (len(content) - 1))
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


@pytest.fixture(scope="module")
def untrained():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl.Trainer, "fit", lambda *_args, **_kwargs: pytest.fail("training was begun"))
        yield


@MANY
@given(st.data())
def test_any_file_is_read_or_refused_in_words(folder, tmp_path_factory, data):
    here = tmp_path_factory.mktemp("damaged") / "all"
    shutil.copytree(folder, here)
    shutil.copy(folder / "foreign.h5", here.parent)
    shutil.copy(folder / "screen.h5ad", here.parent)
    shutil.copy(folder / "screen.h5mu", here.parent)
    name = data.draw(st.sampled_from(FILES))
    files = sorted(file for file in (here / name).rglob("*") if file.is_file()) if (here / name).is_dir() else [here / name]
    file = data.draw(st.sampled_from(files))
    (here.parent / "one").mkdir()
    moved = file.rename(here.parent / "one" / file.name)  # two folders below those that may take its place
    DAMAGES[data.draw(st.sampled_from(sorted(DAMAGES)))](moved, data.draw(st.floats(0, 1)))
    if moved.exists():
        moved.rename(file)
    with result_or_worded_error():
        READERS[data.draw(st.sampled_from(sorted(READERS)))](here, name)
    shutil.rmtree(here.parent)


@MANY
@given(st.data())
def test_any_option_is_taken_or_refused_in_words(model, untrained, data):
    name = data.draw(st.sampled_from(sorted(QUESTIONS)))
    ask, options = QUESTIONS[name]
    asked = data.draw(st.sets(st.sampled_from(options), min_size=1, max_size=2))
    own = fingerprint(model.adata)
    with result_or_worded_error():
        ask(copy.copy(model), {option: data.draw(ABSURD, option) for option in sorted(asked)})
    assert fingerprint(model.adata) == own


ABSURD = st.sampled_from(
    [
        0, -1, 1, 2, 0.5, 1e38, -1e38, NAN, INF, None, True, "a word", "", "GENE01", "control", b"bytes", [], [1], [[1]], {},
        {"a": 1}, ["GENE01"], [["GENE01"]], np.int64(3), np.float32(0.5), np.array([1, 2]), np.array("GENE01"),
        10**30, 3j, object(),
        pd.DataFrame({"a": [1.0]}, index=["GENE01"]), pd.Series(["GENE01"]),
    ]
)  # fmt: skip
EFFECTS = pd.DataFrame(np.random.default_rng(0).normal(size=(5, 3)), index=[*"ABCDE"], columns=[*"xyz"])
with warnings.catch_warnings(action="ignore"):  # of few references
    RECTIFIED = rectify(EFFECTS.iloc[:4], EFFECTS + 1)
SIZES_OF_MODELS = ["n_hidden", "n_latent", "n_layers", "n_embedding", "n_diffusion_hidden", "n_diffusion_blocks", "n_folds"]
WORDS_OF_MODELS = ["dropout_rate", "gene_likelihood", "latent_distribution", "dispersion"]
TRAINING = ["max_epochs", "batch_size", "plan_kwargs", "train_size", "validation_size", "accelerator", "devices"]
GENERATION = ["n_cells", "guidance_scale", "n_steps", "sampler", "batch", "seed", "context", "covariates"]
INFERENCE = ["method", "confidence", "interval", "cross_fitting", "lam", "shrink", "fdr", "lfc_threshold"]


def of_job(_model, options):
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    try:
        assert main(["--out", "never", *words, "--h5ad", "missing.h5ad"]) == 2
    except SystemExit as end:
        assert end.code == 2  # noqa: PT017  of the parser


QUESTIONS = {
    "model": (lambda model, options: tiny_model(model.adata, **options), SIZES_OF_MODELS + WORDS_OF_MODELS),
    "train_vae": (lambda model, options: untrained_part(model.train_vae, options), TRAINING[:5]),
    "train_diffusion": (
        lambda model, options: untrained_part(model.train_diffusion, options),
        ["max_epochs", "batch_size", "plan_kwargs"],
    ),
    "generate": (
        lambda model, options: model.generate("GENE11", **{"n_cells": 2, "n_steps": 2, **options}),
        GENERATION,
    ),
    "effects": (
        lambda model, options: model.predict_effects("GENE11", **{"n_cells": 4, "n_steps": 2, **options}),
        GENERATION + INFERENCE,
    ),
    "calibration": (
        lambda model, options: model.calibration(**{"n_cells": 4, **options}),
        ["levels", "cross_fitting", "n_cells", "seed"],
    ),
    "null_calibration": (
        lambda model, options: model.null_calibration(**{"n_splits": 2, **options}),
        ["n_splits", "n_cells", "seed"],
    ),
    "references": (
        lambda model, options: model.reference_predictions(**{"n_cells": 4, **options}),
        ["cross_fitting", "n_cells", "seed"],
    ),
    "rank": (
        lambda model, options: model.rank_targets(**{"direction": "GENE02", "n_cells": 4, **options}),
        ["direction", "candidates", "threshold", "alternative", "confidence", "n_cells", "seed", "context"],
    ),
    "candidates": (lambda model, options: model.candidates(**options), ["names"]),
    "suggest": (lambda model, options: model.suggest_targets(**{"n": 1, **options}), ["n", "candidates"]),
    "confidence": (
        lambda model, options: model.target_confidence(**{"targets": "GENE11", "n_cells": 4, **options}),
        ["targets", "confidence", "cross_fitting", "n_cells", "seed"],
    ),
    "target_cells": (lambda model, options: model.target_cells(**options), ["targets"]),
    "interactions": (lambda model, options: model.interactions(**options), ["pairs", "confidence"]),
    "add_predictor": (
        lambda model, options: model.add_predictor(**{"name": "mine", "effects": EFFECTS, **options}),
        ["name", "effects"],
    ),
    "remove_predictor": (lambda model, options: model.remove_predictor(*options.values()), ["name"]),
    "rectify": (
        lambda _model, options: rectify(**{"observed": EFFECTS, "predictions": EFFECTS, **options}),
        ["observed", "predictions", "targets", "se", "control_se", "confidence", "lam", "separator", "halves"],
    ),
    "compare": (
        lambda _model, options: compare(**{"predicted": RECTIFIED, "observed": EFFECTS, **options}),
        ["predicted", "observed", "mean", "shared_control", "separator"],
    ),
    "set_strategy": (lambda model, options: model.set_strategy(*options.values()), ["strategy"]),
    "strategy_of": (lambda model, options: model.strategy_of(*options.values()), ["name"]),
    "parts_of": (lambda model, options: model.parts_of(*options.values()), ["name"]),
    "baseline_effects": (lambda model, options: model.baseline_effects(*options.values()), ["name"]),
    "add_perturbations": (lambda model, options: model.add_perturbations(*options.values()), ["names", "names_and_table"]),
    "in_context": (lambda model, options: model.in_context(*options.values()), ["context"]),
    "hold_out": (lambda model, options: hold_out(model.adata, *options.values()), ["perturbations"]),
    "hold_out by": (
        lambda model, options: hold_out(model.adata, "GENE01", **options),
        ["perturbation_key", "control", "combination_sep"],
    ),
    "setup_anndata": (
        lambda model, options: DBDiffusion.setup_anndata(small_screen(), **options),
        [
            "perturbation_key", "control", "layer", "batch_key", "labels_key", "size_factor_key", "embedding_key",
            "combination_sep", "context_key", "categorical_covariate_keys", "continuous_covariate_keys",
        ],
    ),
    "simulate": (lambda _model, options: tiny_screen(**{**SIZES, **options}), sorted(SIZES)),
    "job": (of_job, ["max_epochs", "n_cells", "seed", "strategy", "hold_out_n", "n_latent", "targets"]),
}  # fmt: skip


def untrained_part(train, options):
    """A training that gets as far as to begin has sound options, as far as they are ours."""
    try:
        train(**options)
    except pytest.fail.Exception:
        return
