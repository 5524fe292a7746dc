"""Every door that cells come in by refuses or aligns other genes, refuses what is no counts, and leaves no mark on failing."""

import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scvi
from dressed import fresh
from tiny import QUIET, tiny_guides, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion

SIZES = {"n_perturbations": 5}


@pytest.fixture(scope="module")
def model():
    """Both stages trained; tests must not change it."""
    return briefly(fresh(tiny_screen(**SIZES), {"batch_key": "batch"}))


def briefly(model):
    model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET)
    return model


@pytest.fixture(scope="module")
def folders(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("doors")
    model.save(folder / "model")
    model.export_weights(folder / "weights")
    return folder


@pytest.fixture(scope="module")
def pretrained():
    adata = tiny_screen(**SIZES)
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    theirs = scvi.model.SCVI(adata, n_hidden=8, n_latent=3, gene_likelihood="nb")
    theirs.train(max_epochs=1, **QUIET)
    return theirs


def of_other_setup(model, adata):
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    return model.observed_effects(adata)


DOORS = {
    "model.adata": lambda model, adata, *_: setattr(model, "adata", adata),
    "load": lambda _m, adata, folders, _p: DBDiffusion.load(folders / "model", adata),
    "load_weights": lambda _m, adata, folders, _p: DBDiffusion.load_weights(folders / "weights", adata),
    "load_query_data": lambda model, adata, *_: DBDiffusion.load_query_data(adata, model),
    "load_query_data of a folder": lambda _m, adata, folders, _p: DBDiffusion.load_query_data(adata, folders / "model"),
    "from_scvi_model": lambda _m, adata, _f, pretrained: DBDiffusion.from_scvi_model(pretrained, adata=adata, n_folds=2),
    "latents": lambda model, adata, *_: model.get_latent_representation(adata),
    "elbo": lambda model, adata, *_: model.get_elbo(adata),
    "expression": lambda model, adata, *_: model.get_normalized_expression(adata),
    "differential expression": lambda model, adata, *_: model.differential_expression(
        adata, "perturbation", "control", silent=True
    ),
    "observed effects": lambda model, adata, *_: of_other_setup(model, adata),
    "without cells": lambda _m, adata, folders, _p: DBDiffusion.load(folders / "model", adata=False).get_latent_representation(
        adata
    ),
}
FLAWS = {
    "genes in another order": (lambda a: a[:, ::-1].copy(), "order"),
    "a gene less": (lambda a: a[:, 1:].copy(), "absent|genes"),
    "other genes": (lambda a: renamed(a), "absent|genes"),
    "log": (lambda a: sc.pp.log1p(a, copy=True), "[Cc]ounts"),
    "normalised": (lambda a: sc.pp.normalize_total(a, copy=True), "[Cc]ounts"),
}


def renamed(adata):
    adata.var_names = "X" + adata.var_names
    return adata


@pytest.mark.filterwarnings("ignore:.*var_names")
@pytest.mark.parametrize("flaw", FLAWS.values(), ids=FLAWS)
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_every_door_is_guarded(door, flaw, model, folders, pretrained):
    change, match = flaw
    adata = change(tiny_screen(**SIZES))
    before = adata.copy()
    own, latent = model.adata, model.get_latent_representation()
    with pytest.raises(ValueError, match=match):
        door(model, adata, folders, pretrained)
    if door is not DOORS["observed effects"]:  # this one is set up first
        pd.testing.assert_frame_equal(adata.obs, before.obs)
        assert set(adata.uns) == set(before.uns)
    assert model.adata is own
    assert np.array_equal(model.get_latent_representation(), latent)


@pytest.mark.filterwarnings("ignore:.*var_names")
@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
@pytest.mark.parametrize("other", ["a MuData", "file.h5ad", 3])
def test_no_door_takes_what_is_no_anndata(door, other, model, folders, pretrained):
    other = mudata.MuData({"rna": tiny_screen(**SIZES)}) if other == "a MuData" else other
    with pytest.raises(TypeError, match=r"AnnData.*got|must be an AnnData"):
        door(model, other, folders, pretrained)


@pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
def test_every_door_lets_sound_cells_in(door, folders, pretrained):
    model = DBDiffusion.load(folders / "model", tiny_screen(**SIZES))
    door(model, tiny_screen(**SIZES), folders, pretrained)


USES = {
    "train": lambda model: model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET),
    "train_vae": lambda model: model.train_vae(max_epochs=1, **QUIET),
    "train_diffusion": lambda model: model.train_diffusion(max_epochs=1, **QUIET),
    "cross_fit": lambda model: model.cross_fit(max_epochs=1),
    "observed_effects": lambda model: model.observed_effects(),
    "null_calibration": lambda model: model.null_calibration(n_splits=2),
    "latents": lambda model: model.get_latent_representation(),
    "expression": lambda model: model.get_normalized_expression(),
}
IN_PLACE = {
    "log": sc.pp.log1p,
    "normalised": sc.pp.normalize_total,
    "other counts": lambda a: setattr(a, "X", a.X * 3),
    "genes sorted": lambda a: a._inplace_subset_var(np.arange(a.n_vars)[::-1]),
    "genes filtered": lambda a: a._inplace_subset_var(np.arange(7)),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("change", IN_PLACE.values(), ids=IN_PLACE)
def test_every_use_sees_what_was_changed_in_place(use, change, folders):
    model = DBDiffusion.load(folders / "model", tiny_screen(**SIZES))
    effects = model.predict_effects(model.perturbation_names[0], n_cells=4)
    change(model.adata)
    with pytest.raises(ValueError, match=r"[Cc]ounts|genes"):
        use(model)
    after = model.predict_effects(model.perturbation_names[0], n_cells=4)  # needs no cells
    pd.testing.assert_frame_equal(after, effects)


def test_between_set_up_and_training():
    adata = tiny_screen(**SIZES)
    model = fresh(adata)
    sc.pp.normalize_total(adata)
    with pytest.raises(ValueError, match="fractional"):
        briefly(model)
    assert not model.is_trained_


AGAIN = {
    "scvi": lambda adata: scvi.model.SCVI.setup_anndata(adata),
    "without batches": lambda adata: DBDiffusion.setup_anndata(adata),
    "other names": lambda adata: (
        adata.obs.__setitem__("all", np.where(adata.obs["perturbation"] == "control", "control", "GENE01")),
        DBDiffusion.setup_anndata(adata, perturbation_key="all"),
    ),
}


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
def test_a_set_up_again_changes_no_living_model(again):
    weights, effects = [], []
    for is_set_up_again in (False, True):
        model = fresh(tiny_screen(**SIZES))
        if is_set_up_again:
            again(model.adata)
        effects.append(model.observed_effects())
        again(model.adata) if is_set_up_again else None
        scvi.settings.seed = 0
        briefly(model)
        again(model.adata) if is_set_up_again else None
        model.train_diffusion(max_epochs=1, **QUIET)
        effects.append(model.differential_expression_ppi(n_cells=4))
        weights.append(model.module.state_dict())
    pd.testing.assert_frame_equal(effects[0], effects[2])
    pd.testing.assert_frame_equal(effects[1], effects[3])
    assert all((value == weights[1][name]).all() for name, value in weights[0].items())


def test_two_models_of_one_anndata_do_not_disturb_each_other():
    adata = tiny_screen(**SIZES)
    first = fresh(adata, {"batch_key": "batch"})
    own = first.observed_effects()
    second = fresh(adata, {})
    other = second.observed_effects()
    assert not own["effect"].equals(other["effect"])
    for _ in range(2):
        pd.testing.assert_frame_equal(first.observed_effects(), own)
        pd.testing.assert_frame_equal(second.observed_effects(), other)


def test_a_copy_is_set_up_on_its_own_and_the_original_keeps_its_place():
    adata = tiny_screen(**SIZES)
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    copy, part = adata.copy(), adata[::2].copy()
    DBDiffusion.setup_anndata(copy)
    DBDiffusion.setup_anndata(part)
    sizes = [tiny_model(one).summary_stats.n_batch for one in (adata, copy, part)]
    assert sizes == [2, 1, 1]
    assert len({one.uns["_scvi_uuid"] for one in (adata, copy, part)}) == 3


def test_a_copy_that_was_changed_is_not_taken_for_the_original(model):
    right = model.get_latent_representation()
    copy = model.adata.copy()
    sc.pp.log1p(copy)
    with pytest.raises(ValueError, match="fractional"):
        model.get_latent_representation(copy)
    part = model.adata[::3].copy()
    assert np.array_equal(model.get_latent_representation(part), right[::3])
    assert np.array_equal(model.get_latent_representation(), right)


def test_observed_effects_of_other_cells_need_the_models_contexts():
    adata = tiny_screen(**SIZES)
    adata.obs["time"] = np.where(np.arange(adata.n_obs) % 2, "early", "late")
    model = fresh(adata.copy(), {"context_key": "time"})
    DBDiffusion.setup_anndata(adata)
    with pytest.raises(ValueError, match="context_key"):
        model.observed_effects(adata)
    DBDiffusion.setup_anndata(adata, context_key="time")
    pd.testing.assert_frame_equal(model.observed_effects(adata), model.observed_effects())


def test_a_model_without_cells_says_so(folders):
    model = DBDiffusion.load(folders / "model", adata=False)
    for ask in (model.get_latent_representation, model.observed_effects, model.train_diffusion, model.cross_fit):
        with pytest.raises(ValueError, match="loaded without"):
            ask()


@pytest.mark.parametrize("n_cells", [70, 200])
def test_stage_two_trains_on_the_cells_that_are_there(n_cells, folders):
    """The split of other cells is drawn anew, with the shares it had."""
    whole = tiny_screen(n_cells_per_perturbation=40, **SIZES)
    rows = np.random.default_rng(0).permutation(whole.n_obs)[:n_cells]
    model = DBDiffusion.load(folders / "model", whole[rows].copy())
    share = len(model.train_indices) / (len(model.train_indices) + len(model.validation_indices))
    model.train_diffusion(max_epochs=1, **QUIET)
    parts = [model.train_indices, model.validation_indices, model.test_indices]
    assert sorted(np.concatenate(parts)) == list(range(n_cells))
    assert abs(len(model.train_indices) / n_cells - share) < 0.02
    sizes = whole.obs["perturbation"].iloc[rows].value_counts()
    assert dict(zip(model._screen().names, model._screen().observed.n_cells, strict=True)) == {
        name: sizes[name] for name in model._screen().names
    }


def test_cells_that_were_dropped_in_place_take_no_part_in_training():
    model = briefly(fresh(tiny_screen(**SIZES)))
    sc.pp.subsample(model.adata, n_obs=90)
    model.train_diffusion(max_epochs=1, **QUIET)
    assert len(model.train_indices) + len(model.validation_indices) == 90
    model.train_vae(max_epochs=1, **QUIET)


def test_a_split_of_the_user_is_kept():
    model = fresh(tiny_screen(**SIZES))
    mine = [np.arange(100), np.arange(100, 130), np.arange(130, model.adata.n_obs)]
    model.train_vae(max_epochs=1, datasplitter_kwargs={"external_indexing": mine}, **QUIET)
    model.train_diffusion(max_epochs=1, **QUIET)
    for part, kept in zip(mine, (model.train_indices, model.validation_indices, model.test_indices), strict=True):
        assert np.array_equal(part, kept)


def test_mudata_has_doors_too():
    def screen():
        rna = tiny_screen(n_perturbations=4)
        return mudata.MuData({"rna": rna, "guide": tiny_guides(rna)})

    mdata, places = screen(), {"rna_layer": "rna", "guide_layer": "guide"}
    DBDiffusion.setup_mudata(mdata, modalities=places)
    model = tiny_model(mdata)
    right = model.observed_effects()
    other = screen()
    other.mod["rna"] = other["rna"][:, ::-1].copy()
    with pytest.raises(ValueError, match="another order"):
        model.adata = other
    DBDiffusion.setup_mudata(mdata, modalities=places, min_guide_counts=1)
    pd.testing.assert_frame_equal(model.observed_effects(), right)
    model.train_vae(max_epochs=1, **QUIET)
    latent = model.get_latent_representation()
    with pytest.raises(TypeError, match="MuData"):
        model.get_latent_representation(tiny_screen(n_perturbations=4))
    mdata.obs["_scvi_perturbation"] = 0
    assert np.array_equal(model.get_latent_representation(), latent)
    sc.pp.log1p(mdata["rna"])
    for use in (model.observed_effects, model.get_latent_representation):
        with pytest.raises(ValueError, match="fractional"):
            use()
