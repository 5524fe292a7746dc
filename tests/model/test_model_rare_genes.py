"""Genes that too few cells express for a normal approximation have no p-value."""

import numpy as np
import pytest
from scipy import stats
from tiny import tiny_model

from dbdiffusion import DBDiffusion, simulate_screen
from dbdiffusion.inference import adjust_p_values


@pytest.fixture(scope="module")
def shallow():
    adata = simulate_screen(
        n_genes=90, n_perturbations=12, n_cells_per_perturbation=30, n_control_cells=60, library_size=40, seed=3
    )
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train(max_epochs=2, max_epochs_diffusion=2, enable_progress_bar=False)
    return model


def expressing(adata, name):
    rows = (adata.obs["perturbation"].astype(str) == name).to_numpy()
    return np.asarray((adata.X[rows] > 0).sum(axis=0)).ravel(), int(rows.sum())


@pytest.mark.parametrize("shrink", [False, True])
def test_no_p_value_rests_on_fewer_than_five_expected_cells(shallow, shrink):
    adata, name = shallow.adata, shallow.perturbation_names[2]
    table = shallow.predict_effects(name, shrink=shrink, n_cells=16)
    (own, n_own), (control, n_control) = expressing(adata, name), expressing(adata, "control")
    expected = (own + n_own * control / n_control) / 2
    np.testing.assert_allclose(table["n_expressing"], expected)
    assert np.array_equal(table["p_value"].isna(), expected < 5)
    assert np.array_equal(table["adj_p_value"].isna(), expected < 5)
    assert 5 < (expected < 5).sum() < 85
    assert table[["effect", "se", "ci_low", "ci_high"]].notna().all(axis=None)


def test_genes_without_a_test_do_not_count_in_the_adjustment(shallow):
    table = shallow.observed_effects()
    for _, block in table.groupby("target"):
        tested = block[block["p_value"].notna()]
        np.testing.assert_allclose(tested["adj_p_value"], adjust_p_values(tested["p_value"].to_numpy()))
        np.testing.assert_allclose(tested["adj_p_value"], stats.false_discovery_control(tested["p_value"]))


def test_one_expressing_cell_against_none_is_never_called(shallow):
    table = shallow.observed_effects()
    control = dict(zip(shallow.adata.var_names, expressing(shallow.adata, "control")[0], strict=True))
    own = {
        name: dict(zip(shallow.adata.var_names, expressing(shallow.adata, name)[0], strict=True)) for name in set(table.target)
    }
    n = np.array([own[t][v] + control[v] for t, v in zip(table.target, table.variable, strict=True)])
    assert (n <= 1).sum() > 5
    assert table["p_value"][n <= 1].isna().all()


def test_unseen_targets_have_no_cells_to_expect_anything_of(shallow):
    unseen = next(gene for gene in shallow.adata.var_names if gene not in shallow.perturbation_names)
    table = shallow.predict_effects(unseen, n_cells=16)
    assert table["n_expressing"].isna().all()
    assert table["p_value"].notna().all()


def test_the_number_is_kept_with_the_model(shallow, tmp_path):
    shallow.save(tmp_path / "model")
    loaded = DBDiffusion.load(tmp_path / "model", adata=shallow.adata)
    name = shallow.perturbation_names[:2]
    first, second = (one.predict_effects(name, n_cells=16)["n_expressing"] for one in (shallow, loaded))
    assert np.array_equal(first, second)
