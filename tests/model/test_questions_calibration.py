import numpy as np
import pytest
from tiny import tiny_model, tiny_screen

from dbdiffusion import DBDiffusion, simulate_screen


@pytest.fixture(scope="module")
def calibration(trained):
    return trained.calibration(levels=(0.5, 0.9), n_cells=64)


def test_table_has_a_row_a_level_and_baselines_beside(calibration, trained):
    table = calibration.table
    assert table["level"].tolist() == [0.5, 0.9]
    assert {"coverage", "coverage_se", "width", "interval_score", "width_mean", "width_zero", "coverage_mean"} <= set(table)
    assert (table["width"].diff().dropna() > 0).all()
    assert calibration.tuned.loc["single", "n_reference"] == len(trained.perturbation_names)


def test_coverage_is_that_of_the_transform(calibration):
    pit = calibration.pit.to_numpy()
    for _, row in calibration.table.iterrows():
        per_perturbation = np.nanmean(np.where(np.isnan(pit), np.nan, pit <= row["level"]), axis=1)
        assert np.isclose(per_perturbation.mean(), row["coverage"])
    assert 0.75 < calibration.table["coverage"].iloc[1] <= 1


def test_own_genes_do_not_count(calibration):
    for name in calibration.pit.index:
        assert np.isnan(calibration.pit.loc[name, name])
    assert calibration.pit.notna().mean(axis=None) > 0.9


def test_same_seed_same_calibration(trained, calibration):
    again = trained.calibration(levels=(0.5, 0.9), n_cells=64)
    assert again.table.equals(calibration.table)


def test_null_calibration_needs_no_training_and_finds_nothing():
    adata = tiny_screen(n_control_cells=400)
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    null = tiny_model(adata).null_calibration(n_splits=60, n_cells=40)
    assert null.p_values.shape == (60, adata.n_vars)
    assert (null.table["n_cells"] == 40).all()
    assert 0.03 < null.table["below_0.05"].mean() < 0.07
    assert null.table["n_discoveries"].mean() < 0.5
    assert null.by_expression["n_tests"].iloc[1:].sum() == null.p_values.notna().to_numpy().sum()
    many = null.by_expression[null.by_expression["n_tests"] > 1000]
    assert len(many) > 0
    assert many["below_0.05"].between(0.03, 0.07).all()


def test_null_calibration_sees_that_rare_genes_are_not_normal():
    adata = simulate_screen(n_genes=90, n_perturbations=4, n_cells_per_perturbation=20, n_control_cells=300, library_size=60)
    DBDiffusion.setup_anndata(adata)
    null = tiny_model(adata).null_calibration(n_splits=40, n_cells=30)
    rare = null.by_expression.iloc[0]
    assert rare["n_tests"] > 500
    assert abs(rare["below_0.05"] - 0.05) > 0.015
    assert null.p_values.isna().to_numpy().sum() >= rare["n_tests"]


def test_default_size_is_that_of_the_perturbations(trained):
    sizes = trained.adata.obs["perturbation"].astype(str).value_counts().drop("control")
    assert (trained.null_calibration(n_splits=2).table["n_cells"] <= sizes.median()).all()


def test_too_few_perturbations_are_said_to_be_so():
    adata = tiny_screen(n_perturbations=5)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train(max_epochs=1, max_epochs_diffusion=1, enable_progress_bar=False)
    with pytest.raises(ValueError, match="at least 10 measured perturbations"):
        model.calibration(n_cells=16)


@pytest.mark.parametrize("levels", [(), (0.5, 1.0), (-0.1,)])
def test_impossible_levels_are_refused(trained, levels):
    with pytest.raises(ValueError, match="levels"):
        trained.calibration(levels=levels)
