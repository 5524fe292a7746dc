"""What cannot be set up is refused in words at once, and leaves nothing behind; what can be is, whatever it is called."""

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from dressed import briefly, fresh
from tiny import tiny_guides, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion

QUICK = {"n_cells": 8, "n_steps": 3}
PLACES = {"rna_layer": "rna", "guide_layer": "guide"}


def screen():
    adata = tiny_screen(n_perturbations=5)
    del adata.uns["true_effects"]
    adata.obs["day"] = np.arange(adata.n_obs) % 3
    return adata


def guided(**changes):
    rna = screen()
    return mudata.MuData({"rna": rna, "guide": tiny_guides(rna), **changes})


def left_behind(data):
    holders = [data, *getattr(data, "mod", {}).values()]
    return [key for holder in holders for key in (*holder.obs, *holder.obsm, *holder.uns) if str(key).startswith("_scvi")]


def doubled(adata, column):
    adata.obs = pd.concat([adata.obs, adata.obs[[column]]], axis=1)
    return adata


def with_column(adata, values, name="batch"):
    adata.obs[name] = values
    return adata


def mixed_types(adata):
    return with_column(adata, pd.Series([1, "1", *["x"] * (adata.n_obs - 2)], index=adata.obs_names, dtype=object))


REFUSED = {
    "None": (lambda: None, {}, TypeError, "AnnData, got NoneType"),
    "a path": (lambda: "screen.h5ad", {}, TypeError, "read_h5ad"),
    "a table": (lambda: pd.DataFrame(np.eye(3)), {}, TypeError, "got DataFrame"),
    "a MuData": (guided, {}, TypeError, "setup_mudata"),
    "a column twice": (lambda: doubled(screen(), "perturbation"), {}, ValueError, "more than once"),
    "batches twice": (lambda: doubled(screen(), "batch"), {"batch_key": "batch"}, ValueError, "more than once"),
    "mixed batches": (lambda: mixed_types(screen()), {"batch_key": "batch"}, ValueError, r"text, or numbers.*astype\(str\)"),
    "dates": (
        lambda: with_column(screen(), pd.date_range("2020", periods=3)[np.arange(screen().n_obs) % 3]),
        {"context_key": "batch"},
        ValueError,
        "datetime64",
    ),
    "tuples": (lambda: with_column(screen(), [("a", "b")] * screen().n_obs), {"batch_key": "batch"}, ValueError, "tuple"),
    "lists": (lambda: with_column(screen(), [["a"]] * screen().n_obs), {"batch_key": "batch"}, ValueError, "list"),
    "nobody known": (lambda: screen(), {"control": "NT"}, ValueError, "NT"),
}


@pytest.mark.parametrize(("make", "setup", "error", "match"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_set_up_is_refused_in_words(make, setup, error, match):
    data = make()
    with pytest.raises(error, match=match):
        DBDiffusion.setup_anndata(data, **setup)
    if isinstance(data, ad.AnnData):
        assert left_behind(data) == []


REFUSED_MUDATA = {
    "an AnnData": (screen, {}, TypeError, "setup_anndata"),
    "None": (lambda: None, {}, TypeError, "MuData"),
    "modalities as a list": (guided, {"modalities": ["rna"]}, TypeError, "dict"),
    "no such modality": (guided, {"modalities": {"rna_layer": "protein"}}, ValueError, "protein"),
    "a threshold as text": (guided, {"min_guide_counts": "3"}, TypeError, "min_guide_counts"),
    "a threshold that is no number": (guided, {"min_guide_counts": float("nan")}, ValueError, "min_guide_counts"),
    "a threshold nobody reaches": (guided, {"min_guide_counts": 1000}, ValueError, "min_guide_counts"),
}


@pytest.mark.parametrize(("make", "setup", "error", "match"), REFUSED_MUDATA.values(), ids=REFUSED_MUDATA)
def test_what_cannot_be_set_up_as_mudata_is_refused_in_words(make, setup, error, match):
    data = make()
    with pytest.raises(error, match=match):
        DBDiffusion.setup_mudata(data, **{"modalities": PLACES, **setup})
    if data is not None:
        assert left_behind(data) == []


FAILING = {
    "fractions": lambda a: setattr(a, "X", a.X.toarray() + 0.5),
    "control lacks": lambda a: a.obs.__setitem__("perturbation", "GENE01"),
    "no vectors": lambda a: a.uns.pop("vectors"),
    "transposed vectors": lambda a: a.uns.__setitem__("vectors", a.uns["vectors"].T),
    "batch is the perturbation": lambda a: a.obs.__setitem__("batch", a.obs["perturbation"].to_numpy()),
    "a covariate lacks": lambda a: a.obs.drop(columns="day", inplace=True),
}


@pytest.mark.parametrize("change", FAILING.values(), ids=FAILING)
@pytest.mark.parametrize("is_set_up", [False, True])
def test_a_failed_set_up_leaves_everything_as_it_was(change, is_set_up):
    adata = screen()
    genes = list(adata.var_names[:3])
    adata.uns["vectors"] = pd.DataFrame(np.eye(3), index=[*fresh(adata.copy()).perturbation_names[:1], *genes[:2]])
    if is_set_up:
        model = fresh(adata, {"batch_key": "batch"})
        right = model.observed_effects()
    before = adata.copy()
    change(adata)
    changed = adata.copy()
    setup = {"batch_key": "batch", "embedding_key": "vectors", "categorical_covariate_keys": ["day"]}
    with pytest.raises((ValueError, KeyError)):
        DBDiffusion.setup_anndata(adata, **setup)
    pd.testing.assert_frame_equal(adata.obs, changed.obs)
    assert set(adata.uns) == set(changed.uns)
    assert set(adata.obsm) == set(changed.obsm)
    if is_set_up:
        DBDiffusion._get_most_recent_anndata_manager(adata, required=True)  # the earlier set-up still holds
        adata.X, adata.obs["perturbation"] = before.X, before.obs["perturbation"]
        pd.testing.assert_frame_equal(model.observed_effects(), right)
    else:
        with pytest.raises(ValueError, match="set up"):
            DBDiffusion(adata)


@pytest.mark.parametrize(
    "key",
    ["strategy", "library_size", "batch", "X", "index", "_scvi_batch", "_scvi_perturbation", "_scvi_x", "n cells/µ", "_rank"],
)
def test_the_column_of_perturbations_may_have_any_name(key):
    right = fresh(screen()).observed_effects()
    adata = screen()
    lanes = adata.obs["batch"]
    adata.obs["lane"] = lanes.to_numpy()
    adata.obs[key] = adata.obs.pop("perturbation").astype(str).to_numpy()
    before = adata.obs[key].copy()
    DBDiffusion.setup_anndata(adata, perturbation_key=key, batch_key="lane")
    model = briefly(tiny_model(adata))
    pd.testing.assert_series_equal(adata.obs[key], before)
    pd.testing.assert_frame_equal(model.observed_effects(), right)
    name = model.perturbation_names[0]
    cells = model.generate([name, "GENE55"], **QUICK)
    assert cells.obs[key].astype(str).tolist() == [name] * 8 + ["GENE55"] * 8
    assert len([column for column in cells.obs if "strategy" in column and column != key]) == 1
    sizes = [column for column in cells.obs if "library_size" in column and column != key]
    assert (cells.obs[sizes[0]].to_numpy() > 0).all()
    assert np.isfinite(model.predict_effects([name, "GENE55"], **QUICK)["effect"]).all()


def test_columns_of_batches_may_be_called_as_scvi_tools_calls_its_codes():
    adata = screen()
    right = fresh(adata.copy(), {"batch_key": "batch"}).observed_effects()
    adata.obs["_scvi_batch"] = adata.obs.pop("batch").astype(str).to_numpy()
    before = adata.obs.copy()
    model = fresh(adata, {"batch_key": "_scvi_batch"})
    pd.testing.assert_frame_equal(adata.obs[before.columns], before)
    pd.testing.assert_frame_equal(model.observed_effects(), right)


@pytest.mark.parametrize("kind", [int, float, bool, "category", "string", np.uint8, object])
def test_contexts_of_any_plain_type(kind):
    adata = screen()
    adata.obs["day"] = adata.obs["day"].astype(kind)
    adata.obs["lane"] = adata.obs["day"].to_numpy()
    model = briefly(fresh(adata, {"context_key": "day", "batch_key": "lane"}))
    name, first = model.perturbation_names[0], adata.obs["day"].iloc[0]
    assert set(model.contexts) == {str(value) for value in adata.obs["day"].unique()}
    table = model.predict_effects([name], **QUICK)
    assert list(table["context"].unique()) == list(model.contexts)
    by_value = model.predict_effects([name], context=first, **QUICK)
    by_text = model.predict_effects([name], context=[str(first)], **QUICK)
    pd.testing.assert_frame_equal(by_value, by_text)
    assert model.generate(name, context=first, **QUICK).n_obs == 8
    of_value, of_text = (view.observed_effects() for view in (model.in_context(first), model.in_context(str(first))))
    pd.testing.assert_frame_equal(of_value, of_text)
    with pytest.raises(ValueError, match="context"):
        model.in_context("day 9")


@pytest.mark.parametrize("kind", [np.float32, np.int8, bool, np.float16])
def test_an_assignment_of_guides_is_explained_and_then_understood(kind):
    mdata = guided()
    assigned = (mdata["guide"].X.toarray() > 5).astype(kind)
    mdata["guide"].X = assigned
    with pytest.raises(ValueError, match=r"matrix of 0 and 1.*min_guide_counts=1"):
        DBDiffusion.setup_mudata(mdata, modalities=PLACES)
    assert left_behind(mdata) == []
    DBDiffusion.setup_mudata(mdata, modalities=PLACES, min_guide_counts=1)
    assert tiny_model(mdata).perturbation_names == fresh(screen()).perturbation_names


@pytest.mark.parametrize("dtype", [np.float16, np.uint8, np.int16, np.float64])
def test_dense_counts_of_any_type_are_summed_in_double_precision(dtype):
    adata = screen()
    counts = adata.X.toarray()
    counts[:, 0] += 250 if dtype == np.uint8 else 2000
    counts = np.minimum(np.tile(counts, (1, 40)), 255 if dtype == np.uint8 else 2047)
    wide = ad.AnnData(counts.astype(dtype), obs=adata.obs.copy())
    wide.var_names = [f"GENE{i:02d}" for i in range(wide.n_vars)]
    right = ad.AnnData(counts.astype(np.float64), obs=adata.obs.copy(), var=wide.var.copy())
    left, right = (fresh(one).observed_effects() for one in (wide, right))
    pd.testing.assert_frame_equal(left, right)


def test_cells_of_one_name_are_taken_and_told_by_their_place():
    adata = screen()
    adata.obs_names = ["cell"] * adata.n_obs
    right = fresh(screen()).observed_effects()
    model = fresh(adata)
    pd.testing.assert_frame_equal(model.observed_effects(), right)
    DBDiffusion.setup_anndata(adata)
    pd.testing.assert_frame_equal(model.observed_effects(), right)
    adata._inplace_subset_obs(np.arange(50))
    with pytest.raises(ValueError, match="changed in place"):
        model.observed_effects()


def test_columns_that_nobody_names_may_be_there_twice():
    adata = doubled(screen(), "day")
    pd.testing.assert_frame_equal(fresh(adata).observed_effects(), fresh(screen()).observed_effects())
