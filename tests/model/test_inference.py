import numpy as np
import pytest
from scipy import stats
from tiny import tiny_model, tiny_screen, train_quickly

from dbdiffusion import DBDiffusion
from dbdiffusion._keys import EFFECT_COLUMNS
from dbdiffusion.predict._answers import FewReferencesWarning

WAYS = [
    {"method": "paper"},
    {"method": "hierarchical"},
    {"cross_fitting": "in_sample"},
    {"lam": 1.0},
]


def test_columns_order_and_status(trained, unseen):
    table = trained.differential_expression_ppi([unseen[0], trained.perturbation_names[0]])
    assert tuple(table.columns) == EFFECT_COLUMNS
    assert table.groupby("target", sort=False)["status"].first().tolist() == ["unseen", "measured"]
    assert (table["log_fc"] == table["effect"] / np.log(2)).all()
    assert table.groupby("target")["p_value"].apply(lambda p: p.is_monotonic_increasing).all()
    assert np.allclose(table["mean_target"] - table["mean_control"], table["effect"])


def test_none_means_every_registered_perturbation(trained):
    assert set(trained.differential_expression_ppi()["target"]) == set(trained.perturbation_names)


def test_measured_path_is_welch_with_moderated_variances(trained):
    name = trained.perturbation_names[0]
    adata = trained.adata.copy()
    DBDiffusion.setup_anndata(adata)
    table = tiny_model(adata).observed_effects().query("target == @name")
    values = np.log1p(adata.X.toarray() * 1e4 / adata.X.sum(1))
    values = np.asarray(values)
    rows = adata.obs["perturbation"].astype(str)
    cells, control = values[rows == name], values[rows == "control"]
    expected = stats.ttest_ind(cells, control, equal_var=False)
    assert np.allclose(table["effect"], cells.mean(axis=0) - control.mean(axis=0), atol=1e-5)
    plain = np.abs(expected.statistic) > 0
    ratio = (table["statistic"].to_numpy() / expected.statistic)[plain]
    assert 0.95 < np.median(ratio) < 1.05
    assert (np.sign(ratio) == 1).all()
    half = stats.t.ppf(0.975, table["df"]) * table["se"]
    assert np.allclose(table["ci_high"], table["effect"] + half)


def test_order_of_targets_and_company_change_nothing(trained, unseen):
    forward = trained.predict_effects(unseen)
    backward = trained.predict_effects(list(reversed(unseen)))
    for name in unseen:
        a, b = (t[t["target"] == name].set_index("variable") for t in (forward, backward))
        assert np.allclose(a["effect"], b["effect"], atol=1e-5)
        assert np.allclose(a["p_value"], b["p_value"], atol=1e-4)


def test_same_seed_same_table(trained, unseen):
    trained.predictor().forget_references()
    first = trained.predict_effects(unseen, seed=1)
    trained.predictor().forget_references()
    assert first.equals(trained.predict_effects(unseen, seed=1))


def test_interval_and_p_value_agree(trained, unseen):
    table = trained.predict_effects(unseen, confidence=0.9)
    excludes_zero = (table["ci_low"] > 0) | (table["ci_high"] < 0)
    assert (excludes_zero == (table["p_value"] < 0.1)).all()


def test_weights_and_options_are_told(trained, unseen):
    attrs = trained.predict_effects(unseen).attrs
    assert "generated" in attrs["weights"]["single"]
    assert set(attrs["rectifier_mean"]["single"]) == {"rho", "control_weight", "n_placed"}
    assert attrs["scale"].startswith("mean log1p CP10K")


@pytest.mark.parametrize("options", WAYS)
def test_other_ways_answer(trained, unseen, options):
    table = trained.predict_effects(unseen, **options)
    assert np.isfinite(table["se"]).all()
    if options.get("method") == "paper":
        assert (table["lam"] == 1).all()
        assert np.isinf(table["df"]).all()


def test_mean_interval_is_narrower(trained, unseen):
    prediction = trained.predict_effects(unseen)
    mean = trained.predict_effects(unseen, interval="mean")
    assert mean["se"].mean() < prediction["se"].mean()
    assert np.allclose(mean["effect"], prediction["effect"])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"method": "magic"}, "method"),
        ({"interval": "wide"}, "interval"),
        ({"cross_fitting": "none"}, "cross_fitting"),
        ({"confidence": 1.0}, "confidence"),
        ({"fdr": "some"}, "fdr"),
        ({"lfc_threshold": -1.0}, "threshold"),
        ({"n_cells": 1}, "n_cells"),
        ({"lam": -1.0}, "lam"),
        ({"targets": ["control"]}, "Control"),
        ({"targets": []}, "at least one"),
    ],
)
def test_impossible_options_are_refused(trained, unseen, options, match):
    with pytest.raises(ValueError, match=match):
        trained.differential_expression_ppi(**{"targets": unseen, **options})


@pytest.mark.parametrize("n_perturbations", [1, 2])
def test_too_few_references_give_no_interval(n_perturbations):
    adata = tiny_screen(n_perturbations=n_perturbations)
    DBDiffusion.setup_anndata(adata)
    model = train_quickly(tiny_model(adata), 2, 2)
    model.set_strategy("mean")
    target = next(gene for gene in adata.var_names if gene not in model.perturbation_names)
    with pytest.warns(FewReferencesWarning, match="at least 3"):
        table = model.predict_effects(target)
    assert np.isfinite(table["effect"]).all()
    assert table[["se", "ci_low", "ci_high", "p_value", "adj_p_value"]].isna().all(axis=None)
    measured = model.predict_effects(model.perturbation_names[0])
    assert np.isfinite(measured["p_value"]).all()


def test_added_perturbations_join_the_default_targets(screen):
    adata = tiny_screen()
    DBDiffusion.setup_anndata(adata)
    model = train_quickly(tiny_model(adata), 2, 2)
    new = next(gene for gene in adata.var_names if gene not in model.perturbation_names)
    model.add_perturbations([new])
    table = model.differential_expression_ppi()
    assert table.query("target == @new")["status"].eq("unseen").all()
    with pytest.raises(ValueError, match="registered already"):
        model.add_perturbations([new])
    with pytest.raises(KeyError, match="nothing places"):
        model.add_perturbations(["not a gene"])
    assert new in model.perturbation_names
    assert "not a gene" not in model.perturbation_names
