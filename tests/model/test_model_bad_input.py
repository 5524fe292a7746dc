"""What a user may bring: accepted where it can be, a worded error where it cannot."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tiny import tiny_model, tiny_screen, train_quickly

from dbdiffusion import DBDiffusion

FORMATS = {
    "csr": sp.csr_matrix,
    "csc": sp.csc_matrix,
    "dense": lambda x: x.toarray(),
    "float64": lambda x: sp.csr_matrix(x, dtype=np.float64),
    "int": lambda x: x.toarray().astype(np.int64),
}


def answer(adata, **setup):
    DBDiffusion.setup_anndata(adata, **setup)
    model = train_quickly(tiny_model(adata), 1, 1)
    return model.predict_effects(
        [model.perturbation_names[0], next(g for g in adata.var_names if g not in model.perturbation_names)]
    )


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_every_count_format_gives_the_same_observed_effects(kind):
    adata = tiny_screen(n_perturbations=4)
    DBDiffusion.setup_anndata(adata)
    expected = tiny_model(adata).observed_effects()
    adata.X = FORMATS[kind](adata.X)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    assert np.allclose(model.observed_effects()["effect"], expected["effect"], atol=1e-6)
    train_quickly(model, 1, 1)
    assert model.generate(model.perturbation_names[0], n_cells=2).n_obs == 2


def test_counts_in_a_layer():
    adata = tiny_screen(n_perturbations=4)
    adata.layers["counts"] = adata.X.copy()
    adata.X = adata.X.multiply(0.5).tocsr()
    assert np.isfinite(answer(adata, layer="counts")["effect"]).all()


def test_backed(tmp_path):
    import anndata as ad

    adata = tiny_screen(n_perturbations=4)
    del adata.uns["true_effects"]
    adata.write_h5ad(tmp_path / "screen.h5ad")
    backed = ad.read_h5ad(tmp_path / "screen.h5ad", backed="r+")
    table = answer(backed)
    assert np.isfinite(table["effect"]).all()


def test_view_is_refused_with_advice():
    adata = tiny_screen()
    with pytest.raises(ValueError, match=r"adata.copy\(\)"):
        DBDiffusion.setup_anndata(adata[::2])


def test_cells_without_counts():
    adata = tiny_screen(n_perturbations=4)
    x = adata.X.tolil()
    x[[0, 80]] = 0
    adata.X = x.tocsr()
    table = answer(adata)
    assert np.isfinite(table["effect"]).all()


def test_two_genes():
    adata = tiny_screen(n_genes=20, n_perturbations=6)[:, :2].copy()
    DBDiffusion.setup_anndata(adata)
    model = train_quickly(tiny_model(adata), 1, 1)
    assert len(model.predict_effects(model.perturbation_names[0])) == 2


def test_a_category_without_cells_is_no_perturbation():
    adata = tiny_screen(n_perturbations=4)
    adata.obs["perturbation"] = adata.obs["perturbation"].cat.add_categories(["GENE59x"])
    DBDiffusion.setup_anndata(adata)
    assert "GENE59x" not in tiny_model(adata).perturbation_names
    assert set(tiny_model(adata).observed_effects()["target"]) == set(tiny_model(adata).perturbation_names)


def test_a_single_cell_has_an_effect_but_no_interval():
    adata = tiny_screen(n_perturbations=4)
    names = adata.obs["perturbation"].astype(str).to_numpy()
    name = sorted(set(names) - {"control"})[0]
    keep = np.ones(len(names), bool)
    keep[np.flatnonzero(names == name)[1:]] = False
    table = answer(adata[keep].copy()).query("target == @name")
    assert np.isfinite(table["effect"]).all()
    assert table["p_value"].isna().all()


def test_unseen_target_without_a_measured_gene(trained):
    with pytest.raises(KeyError, match="embedding_key"):
        trained.predict_effects("NOTAGENE")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda a: a.obs.drop(columns="perturbation", inplace=True), KeyError, "perturbation_key"),
        (lambda a: a.obs.__setitem__("perturbation", "GENE01"), ValueError, "control"),
        (lambda a: a.obs.__setitem__("perturbation", "control"), ValueError, "At least one perturbation"),
        (lambda a: a.obs.__setitem__("perturbation", ["control", *["GENE01"] * (a.n_obs - 1)]), ValueError, "2 control cells"),
        (lambda a: a.obs.__setitem__("perturbation", [None, *["control"] * (a.n_obs - 1)]), ValueError, "missing or empty"),
        (lambda a: setattr(a, "var_names", ["same"] * a.n_vars), ValueError, "var_names_make_unique"),
        (lambda a: setattr(a, "X", a.X.multiply(0.3).tocsr()), ValueError, "fractional"),
        (lambda a: setattr(a, "X", a.X.multiply(-1.0).tocsr()), ValueError, "negative"),
        (lambda a: setattr(a, "X", np.where(a.X.toarray() == 0, np.nan, 1.0)), ValueError, "NaN"),
        (lambda a: setattr(a, "X", sp.csr_array(a.X)), ValueError, "csr_matrix"),
    ],
)
def test_what_cannot_be_is_said_in_words(change, error, match):
    adata = tiny_screen(n_perturbations=4)
    change(adata)
    with pytest.raises(error, match=match):
        DBDiffusion.setup_anndata(adata)


@pytest.mark.parametrize(
    ("table", "error", "match"),
    [
        (pd.DataFrame([[np.nan]], index=["GENE01"]), ValueError, "finite"),
        (pd.DataFrame([[1.0]], index=["elsewhere"]), ValueError, "transposed"),
        (pd.DataFrame([[1.0], [2.0]], index=["GENE01", "GENE01"]), ValueError, "more than once"),
        (np.eye(3), TypeError, "DataFrame"),
        (pd.DataFrame(index=["GENE01"]), ValueError, "empty"),
    ],
)
def test_bad_vectors_are_refused(table, error, match):
    adata = tiny_screen(n_perturbations=4)
    adata.uns["vectors"] = table
    with pytest.raises(error, match=match):
        DBDiffusion.setup_anndata(adata, embedding_key="vectors")


def test_integer_columns_of_vectors_are_fine():
    adata = tiny_screen(n_perturbations=4)
    names = sorted(set(adata.obs["perturbation"].astype(str)) - {"control"})
    adata.uns["vectors"] = pd.DataFrame(np.eye(4), index=names, columns=range(4))
    assert np.isfinite(answer(adata, embedding_key="vectors")["effect"]).all()


def test_a_perturbation_that_shares_no_batch_with_control():
    adata = tiny_screen(n_perturbations=4)
    name = sorted(set(adata.obs["perturbation"].astype(str)) - {"control"})[0]
    adata.obs["batch"] = np.where(adata.obs["perturbation"] == name, "alone", "together")
    with pytest.raises(ValueError, match="share no batch"):
        DBDiffusion.setup_anndata(adata, batch_key="batch")


def test_covariates_and_size_factors():
    adata = tiny_screen(n_perturbations=4)
    adata.obs["depth"] = np.asarray(adata.X.sum(1)).ravel()
    adata.obs["lane"] = pd.Categorical(np.where(np.arange(adata.n_obs) % 2, "a", "b"))
    adata.obs["phase"] = np.linspace(0, 1, adata.n_obs)
    table = answer(
        adata,
        size_factor_key="depth",
        categorical_covariate_keys=["lane"],
        continuous_covariate_keys=["phase"],
        labels_key="lane",
    )
    assert np.isfinite(table["effect"]).all()


def test_relative_size_factors_give_the_same_scale():
    adata = tiny_screen(n_perturbations=4)
    depth = np.asarray(adata.X.sum(1)).ravel()
    adata.obs["depth"], adata.obs["relative"] = depth, depth / depth.mean()
    effects = []
    for key in ("depth", "relative"):
        DBDiffusion.setup_anndata(adata, size_factor_key=key)
        effects.append(tiny_model(adata).observed_effects()["effect"])
    assert np.allclose(*effects, atol=1e-5)
