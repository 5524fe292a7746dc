"""Laws of new cells: their effects are those of the model's own reader, and what is missing is named."""

import warnings

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from dbdiffusion import DBDiffusion, ScreenWarning, compare
from dbdiffusion.predict._new_cells import effects_of_cells
from dbdiffusion.screen import NameRule


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_effects_are_those_that_a_model_reads(screen, batch_key):
    adata = screen.copy()
    adata.obs["total"] = np.asarray(adata.X.sum(axis=1)).ravel() * 3.0
    DBDiffusion.setup_anndata(adata, batch_key=batch_key, size_factor_key="total")
    expected = DBDiffusion(adata, n_latent=2).observed_effects().set_index(["target", "variable"])
    table = effects_of_cells(screen_with(screen), NameRule(), batch_key=batch_key, size_factor_key="total")
    table = table.set_index(["target", "variable"]).loc[expected.index]
    assert np.allclose(table["effect"], expected["effect"], atol=1e-5)
    assert np.allclose(table["se"], expected["se"], rtol=1e-3)


def screen_with(screen):
    adata = screen.copy()
    adata.obs["total"] = np.asarray(adata.X.sum(axis=1)).ravel() * 3.0
    adata.layers["counts"] = adata.X
    return adata


def test_compare_takes_cells(screen):
    table = effects_of_cells(screen, NameRule(), batch_key="batch")
    predicted = table.assign(df=1e6)
    comparison = compare(predicted, screen, batch_key="batch")
    assert (comparison.table["pearson"] > 1 - 1e-9).all()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"perturbation_key": "perturbatoin"}, KeyError, "Did you mean 'perturbation'"),
        ({"batch_key": "lane"}, KeyError, "no column 'lane'"),
        ({"layer": "count"}, KeyError, "no layer 'count'. Did you mean 'counts'"),
        ({"control": "NT"}, ValueError, "must hold control cells .'NT'"),
    ],
)
def test_what_is_missing_is_named(screen, options, error, words):
    with pytest.raises(error, match=words):
        effects_of_cells(screen_with(screen), NameRule(), **options)


def with_values(adata, change):
    adata.X = change(adata.X.astype(float))
    return adata


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x.log1p(), "raw counts, as at set-up, but some are fractional"),
        (lambda x: -x, "some are negative"),
        (lambda x: x * np.nan, "some are NaN or infinite"),
    ],
)
def test_values_that_are_no_counts_are_refused(screen, change, words):
    with pytest.raises(ValueError, match=words):
        effects_of_cells(with_values(screen.copy(), change), NameRule())


def test_one_control_cell_is_refused(screen):
    is_control = (screen.obs["perturbation"] == "control").to_numpy()
    few = screen[~is_control | (np.cumsum(is_control) == 1)].copy()
    with pytest.raises(ValueError, match="one control cell"):
        effects_of_cells(few, NameRule())


def test_relative_size_factors_are_what_they_are_at_set_up(screen):
    adata = screen_with(screen)
    adata.obs["relative"] = adata.obs["total"] / adata.obs["total"].mean()
    expected = effects_of_cells(adata, NameRule(), size_factor_key=None)
    adata.obs["counts"] = np.asarray(adata.X.sum(axis=1)).ravel() / np.asarray(adata.X.sum(axis=1)).mean()
    np.testing.assert_allclose(
        effects_of_cells(adata, NameRule(), size_factor_key="counts")["effect"], expected["effect"], atol=1e-5
    )
    np.testing.assert_allclose(
        effects_of_cells(adata, NameRule(), size_factor_key="relative")["effect"], expected["effect"], atol=1e-5
    )


@pytest.mark.parametrize("wrong", [np.nan, -1.0, 0.0])
def test_size_factors_that_are_none_are_refused(screen, wrong):
    adata = screen_with(screen)
    adata.obs["factor"] = np.r_[wrong, np.ones(adata.n_obs - 1)]
    with pytest.raises(ValueError, match="finite and above 0"):
        effects_of_cells(adata, NameRule(), size_factor_key="factor")


def test_two_scales_and_what_was_measured_are_warned_of(screen):
    table = effects_of_cells(screen, NameRule(), batch_key="batch").assign(df=1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare(table, screen, batch_key="batch")
    with pytest.warns(ScreenWarning, match="targets were measured when the model was trained"):
        compare(table.assign(status="measured"), screen, batch_key="batch")
    half = screen[:, : screen.n_vars // 3].copy()
    with pytest.warns(ScreenWarning, match="times as much as those of the training, so effects"):
        compare(table, half, batch_key="batch")
    with pytest.warns(ScreenWarning, match="two scales"):
        compare(table, screen_with(screen), batch_key="batch", size_factor_key="total")


@pytest.mark.parametrize("key", ["batch", "perturbation"])
def test_cells_that_lack_a_label_are_refused(screen, key):
    """They would be counted in a group that is not theirs."""
    cells = screen.copy()
    cells.obs[key] = cells.obs[key].astype(object)
    cells.obs.iloc[3, cells.obs.columns.get_loc(key)] = np.nan
    with pytest.raises(ValueError, match="1 have none"):
        effects_of_cells(cells, NameRule(), batch_key="batch")


def test_names_and_empty_cells_are_read_as_a_model_reads_them(screen):
    """Two spellings are one perturbation, parts that are control are none, and cells without counts take no part."""
    plain = effects_of_cells(screen, NameRule("control"))
    names = plain["target"].unique()
    cells = screen.copy()
    label = cells.obs["perturbation"].astype(str).to_numpy().copy()
    own = np.flatnonzero(label == names[0])
    label[own[::2]] = f"{names[0]}+NT"
    label[label == "control"] = "NT"
    cells.obs["perturbation"] = label
    empty = cells[:7].copy()
    empty.X = sp.csr_matrix(empty.shape)
    both = ad.concat([cells, empty])
    table = effects_of_cells(both, NameRule("NT"), control="NT")
    assert table["target"].unique().tolist() == names.tolist()
    np.testing.assert_allclose(table["effect"], plain["effect"], atol=1e-9)
    np.testing.assert_allclose(table["se"], plain["se"], atol=1e-9)


def test_two_spellings_of_a_pair_are_one(screen):
    cells = screen.copy()
    first, second = sorted(set(cells.obs["perturbation"].astype(str)) - {"control"})[:2]
    label = cells.obs["perturbation"].astype(str).replace({first: f"{first}+{second}", second: f"{second}+{first}"})
    cells.obs["perturbation"] = label
    table = effects_of_cells(cells, NameRule())
    assert sum("+" in name for name in table["target"].unique()) == 1
