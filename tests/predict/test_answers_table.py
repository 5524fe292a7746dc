import numpy as np

from dbdiffusion._keys import EFFECT_COLUMNS
from dbdiffusion.predict._answers import fitted_attrs, observed_table


def test_observed_table_has_the_columns_of_the_plan_and_only_measured_rows(trained):
    screen = trained.predictor().screen
    table = observed_table(screen.names, screen.observed, screen.var_names, screen.control, 0.9)
    assert tuple(table.columns) == EFFECT_COLUMNS
    assert set(table["status"]) == {"measured"}
    assert set(table["error_rate"]) == {"fdr_bh"}
    assert table["target"].nunique() == len(trained.perturbation_names)
    assert np.isfinite(table["n_expressing"]).all()


def test_without_unseen_targets_nothing_was_fitted():
    assert fitted_attrs({}) == {"weights": {}, "rectifier_mean": {}, "lists": {}}
