import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scipy.sparse as sp
import scvi
from dressed import dressed_screen
from tiny import tiny_guides, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.data import ScreenManager
from dbdiffusion.data._manager import BLOCK, N_BLOCKS

EVERYTHING = {
    "batch_key": "batch",
    "labels_key": "lane",
    "size_factor_key": "depth",
    "categorical_covariate_keys": ["donor"],
    "continuous_covariate_keys": ["phase"],
    "context_key": "donor",
}


def managed(adata=None, **setup):
    adata = dressed_screen() if adata is None else adata
    DBDiffusion.setup_anndata(adata, **setup)
    return adata, DBDiffusion._get_most_recent_anndata_manager(adata)


def registered(manager):
    return {key: np.asarray(manager.get_from_registry(key)) for key in manager.data_registry if key != "X"}


OTHER_SETUPS = [
    lambda adata: scvi.model.SCVI.setup_anndata(adata, batch_key="lane"),
    lambda adata: DBDiffusion.setup_anndata(adata),
    lambda adata: DBDiffusion.setup_anndata(
        adata, perturbation_key="lane", control="l1", batch_key="donor", categorical_covariate_keys=["batch", "lane"]
    ),
]
CHANGES = {
    "codes dropped": lambda a: a.obs.drop(columns=[c for c in a.obs if c.startswith("_scvi")], inplace=True),
    "codes overwritten": lambda a: a.obs.__setitem__("_scvi_perturbation", 0),
    "a new obs": lambda a: setattr(a, "obs", a.obs[["perturbation", "batch", "lane", "donor", "phase", "depth"]].copy()),
    "names relabelled": lambda a: a.obs.__setitem__("perturbation", "GENE01"),
    "batches relabelled": lambda a: a.obs.__setitem__("batch", "one"),
    "everything of scvi-tools gone": lambda a: (a.obsm.clear(), a.uns.clear()),
}


@pytest.mark.filterwarnings("ignore:.*perturbation.*var_names")
@pytest.mark.parametrize("again", OTHER_SETUPS)
def test_another_set_up_does_not_change_what_is_registered(again):
    adata, manager = managed(**EVERYTHING)
    before = registered(manager)
    again(adata)
    manager.validate()
    for key, values in registered(manager).items():
        np.testing.assert_array_equal(values, before[key], err_msg=key)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_codes_that_were_written_over_are_put_back(change):
    adata, manager = managed(**EVERYTHING)
    before = registered(manager)
    change(adata)
    manager.validate()
    for key, values in registered(manager).items():
        np.testing.assert_array_equal(values, before[key], err_msg=key)


def filter_half(adata):
    sc.pp.filter_cells(adata, min_genes=int(np.median(np.asarray((adata.X > 0).sum(axis=1)))))


@pytest.mark.parametrize("subset", [filter_half, lambda a: a._inplace_subset_obs(np.arange(a.n_obs)[::-3])])
def test_cells_that_were_dropped_in_place_are_followed(subset):
    adata, manager = managed(**EVERYTHING)
    before = {key: pd.DataFrame(values, index=adata.obs_names) for key, values in registered(manager).items()}
    subset(adata)
    adata.obs["_scvi_perturbation"] = 0  # as another set-up would
    assert 0 < adata.n_obs < len(before["batch"])
    manager.validate(whole=True)
    for key, values in registered(manager).items():
        np.testing.assert_array_equal(values, before[key].loc[adata.obs_names], err_msg=key)


def test_cells_may_be_renamed_in_place():
    adata, manager = managed(batch_key="batch")
    adata.obs_names = "x" + adata.obs_names
    manager.validate()
    adata.obs["_scvi_perturbation"] = 0
    manager.validate()
    assert adata.obs["_scvi_perturbation"].nunique() == 5


def test_unknown_cells_are_refused():
    adata, manager = managed()
    adata.obs_names = "x" + adata.obs_names
    adata.obs["_scvi_perturbation"] = 0
    with pytest.raises(ValueError, match="unknown to the set-up"):
        manager.validate()


def replaced(values):
    return lambda adata: setattr(adata, "X", values(adata.X))


CHANGED_COUNTS = {
    "normalised": sc.pp.normalize_total,
    "log": sc.pp.log1p,
    "scaled": lambda a: sc.pp.scale(a, zero_center=False),
    "other counts": replaced(lambda x: x * 2),
    "binary": replaced(lambda x: (x > 0).astype(np.float32)),
    "cells shuffled": replaced(lambda x: x[np.random.default_rng(0).permutation(x.shape[0])]),
    "array": replaced(sp.csr_array),
    "nan": replaced(lambda x: np.where(x.toarray() > 1, np.nan, x.toarray())),
    "all gone": lambda a: setattr(a, "X", None),
}


@pytest.mark.parametrize("change", CHANGED_COUNTS.values(), ids=CHANGED_COUNTS)
def test_counts_changed_in_place_are_refused(change):
    adata, manager = managed()
    change(adata)
    with pytest.raises(ValueError, match=r"[Cc]ounts"):
        manager.validate()


def test_counts_in_a_layer_are_watched_there():
    adata = dressed_screen()
    adata.layers["counts"] = adata.X.copy()
    adata, manager = managed(adata, layer="counts")
    sc.pp.log1p(adata)
    manager.validate(whole=True)
    adata.layers["counts"] = adata.X
    with pytest.raises(ValueError, match="fractional"):
        manager.validate()
    del adata.layers["counts"]
    with pytest.raises(KeyError, match="counts"):
        manager.validate()


@pytest.mark.parametrize("kind", [sp.csr_matrix, sp.csc_matrix, lambda x: x.toarray()])
def test_a_whole_look_sees_a_single_cell_and_a_glance_sees_what_happens_to_all(kind):
    n = 2 * N_BLOCKS * BLOCK
    adata = tiny_screen(n_genes=11, n_perturbations=2, n_cells_per_perturbation=n // 4, n_control_cells=n // 2, n_modules=2)
    adata.X = kind(adata.X)
    adata, manager = managed(adata)
    row = BLOCK + 3  # between two blocks
    adata.X[row, 0] += 1
    manager.validate()
    with pytest.raises(ValueError, match=repr(adata.obs_names[row])):
        manager.validate(whole=True)
    adata.X[row, 0] -= 1
    manager.validate(whole=True)
    adata.X = kind(sp.csr_matrix(adata.X) * 2)
    with pytest.raises(ValueError, match="changed in place"):
        manager.validate()


@pytest.mark.parametrize(
    "change",
    [
        lambda a: setattr(a, "var_names", a.var_names[::-1]),
        lambda a: a._inplace_subset_var(np.arange(a.n_vars)[::-1]),
        lambda a: sc.pp.filter_genes(a, min_cells=1 + int((a.X > 0).sum(axis=0).min())),
        lambda a: setattr(a, "var_names", a.var_names.str.lower()),
    ],
    ids=["renamed", "sorted", "filtered", "lower case"],
)
def test_genes_changed_in_place_are_refused(change):
    adata, manager = managed()
    change(adata)
    with pytest.raises(ValueError, match=r"genes must be the 60 known ones.*changed in place"):
        manager.validate()


def test_a_column_that_the_model_reads_may_not_change():
    adata, manager = managed(size_factor_key="depth")
    adata.obs["depth"] *= 2
    with pytest.raises(ValueError, match=r"obs\['depth'\] was changed"):
        manager.validate()


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["rna"].obs.drop(columns=[c for c in m["rna"].obs if c.startswith("_scvi")], inplace=True),
        lambda m: m.obs.drop(columns=[c for c in m.obs if "_scvi" in c], inplace=True),
        lambda m: scvi.model.SCVI.setup_anndata(m["rna"], batch_key="escaped"),
        lambda m: m["rna"].uns.clear(),
    ],
)
def test_mudata_keeps_to_its_set_up(change):
    rna = tiny_screen(n_perturbations=4)
    mdata = mudata.MuData({"rna": rna, "guide": tiny_guides(rna)})
    places = {"rna_layer": "rna", "guide_layer": "guide", "batch_key": "rna"}
    DBDiffusion.setup_mudata(mdata, batch_key="batch", modalities=places)
    manager = DBDiffusion._get_most_recent_anndata_manager(mdata)
    assert isinstance(manager, ScreenManager)
    before = registered(manager)
    change(mdata)
    manager.validate(whole=True)
    for key, values in registered(manager).items():
        np.testing.assert_array_equal(values, before[key], err_msg=key)
    sc.pp.log1p(mdata["rna"])
    with pytest.raises(ValueError, match="fractional"):
        manager.validate()


@pytest.mark.parametrize("new", [0, 1, 3])
def test_a_batch_that_the_model_does_not_know_is_refused_whatever_its_number(new):
    adata, other = dressed_screen(), dressed_screen()
    for one, values in ((adata, (7, 9)), (other, (7, new))):
        one.obs["number"] = np.where(np.arange(one.n_obs) % 2, *values)
    _, manager = managed(adata, batch_key="number")
    with pytest.raises(ValueError, match=f"Category {new} "):
        manager.transfer_fields(other)
    assert not [column for column in other.obs if column.startswith("_scvi")]


def test_takes_part_says_which_cells_have_counts():
    adata = dressed_screen()
    counts = adata.X.toarray()
    counts[[2, 5]] = 0
    adata.X = counts
    _, manager = managed(adata)
    assert np.flatnonzero(~manager.takes_part).tolist() == [2, 5]
    assert manager.totals[2] == 0
    _, deep = managed(adata, size_factor_key="depth")
    assert deep.takes_part is None
