from dataclasses import replace

import numpy as np
import pytest
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.inference import Estimate
from dbdiffusion.predict import GenerationOptions, Recipe
from dbdiffusion.predict._answers import NotToldApartWarning, rectified_answers
from dbdiffusion.predict._pool import is_told_apart

QUICK = {"n_cells": 24, "n_steps": 4}


def test_unseen_targets_have_q_values_of_the_false_sign_proportion(trained, unseen):
    measured = trained.perturbation_names[0]
    table = trained.predict_effects([*unseen, measured], **QUICK)
    own = table["target"] == table["variable"]
    of_unseen = table["status"] == "unseen"
    assert set(table.loc[of_unseen, "error_rate"]) == {"fsp"}
    assert set(table.loc[~of_unseen, "error_rate"]) == {"fdr_bh"}
    assert table.loc[of_unseen & own, "adj_p_value"].isna().all()
    n = len(trained.perturbation_names)
    assert table.attrs["lists"]["single"] == {"least_promise": 2 / (n + 1), "n_reference": n}
    q = table.loc[of_unseen & ~own, "adj_p_value"].dropna()
    assert len(q) > 0
    assert q.between(2 / (n + 1), 1).all()


def test_lists_do_not_depend_on_the_confidence_nor_on_other_targets(trained, unseen):
    both = trained.predict_effects(unseen, **QUICK)
    alone = trained.predict_effects(unseen[-1], confidence=0.5, **QUICK)
    np.testing.assert_allclose(both.loc[both["target"] == unseen[-1], "adj_p_value"], alone["adj_p_value"])


def test_a_larger_effect_of_interest_lists_no_more(trained, unseen):
    plain, large = (trained.predict_effects(unseen, lfc_threshold=t, **QUICK)["adj_p_value"] for t in (0.0, 0.5))
    assert (large.dropna() <= 0.2).sum() <= (plain.dropna() <= 0.2).sum()


def test_all_targets_together_are_adjusted_for_measured_ones_only(trained, unseen):
    with pytest.raises(ValueError, match="`fdr='all'` adjusts p-values of measured perturbations"):
        trained.predict_effects(unseen, fdr="all", **QUICK)
    assert set(trained.predict_effects(trained.perturbation_names[:2], fdr="all")["error_rate"]) == {"fdr_bh"}


@pytest.mark.parametrize("options", [{"cross_fitting": "in_sample"}, {"method": "paper"}])
def test_ways_without_left_out_references_keep_their_adjusted_p_values(trained, unseen, options):
    assert set(trained.predict_effects(unseen, **QUICK, **options)["error_rate"]) == {"fdr_bh"}


def test_sign_error_follows_the_p_value_of_no_effect(trained, unseen):
    measured = trained.predict_effects(trained.perturbation_names[:2])
    np.testing.assert_allclose(measured["lfsr"], measured["p_value"] / 2)
    table = trained.predict_effects(unseen, **QUICK)
    told = table.dropna(subset="lfsr")
    assert told["lfsr"].between(0, 0.5).all()
    assert np.corrcoef(told["lfsr"], told["p_value"])[0, 1] > 0.5
    assert trained.predict_effects(unseen, lfc_threshold=1.0, **QUICK)["lfsr"].equals(table["lfsr"])


def test_genes_that_cannot_be_listed_have_no_sign_error(trained, unseen):
    """Few cells express them, or the target hits them: left-out signs tell nothing of either."""
    predictor = trained.predictor()
    screen = predictor.screen
    quiet = np.arange(len(screen.var_names)) < 5
    expressing = np.where(quiet, 0.1, np.maximum(screen.observed.n_expressing, 6))
    few = replace(predictor, screen=replace(screen, observed=replace(screen.observed, n_expressing=expressing)))
    answers, _ = rectified_answers(few, unseen, Recipe(GenerationOptions()))
    for name in unseen:
        np.testing.assert_array_equal(np.isnan(answers[name].lfsr), quiet | (screen.var_names == name))
        assert np.isfinite(answers[name].estimate.effect).all()


def test_told_apart_compares_differences_with_standard_errors():
    estimate = Estimate(np.array([1.0, -1.0, 0.5]), np.full(3, 2.0), np.full(3, 9.0))
    assert is_told_apart(estimate, np.zeros(3))
    assert not is_told_apart(estimate, estimate.effect + 0.1)
    assert not is_told_apart(Estimate(estimate.effect, np.full(3, np.nan), estimate.df), np.zeros(3))


def test_targets_placed_by_the_mean_are_said_to_be_alike():
    adata = tiny_screen()
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.set_strategy("mean")
    model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET)
    unseen = [gene for gene in adata.var_names if gene not in model.perturbation_names][:2]
    with pytest.warns(NotToldApartWarning, match="2 of 2 unseen perturbations"):
        table = model.predict_effects(unseen, **QUICK)
    assert table.attrs["told_apart"] == dict.fromkeys(unseen, False)
    assert set(table["status"]) == {"unseen"}


def test_a_model_saved_without_halves_keeps_its_adjusted_p_values_and_can_be_mended(tmp_path):
    adata = tiny_screen()
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train(max_epochs=1, max_epochs_diffusion=1, **QUIET)
    unseen = next(gene for gene in adata.var_names if gene not in model.perturbation_names)
    right = model.predict_effects(unseen, **QUICK)
    model.screen_ = {name: value for name, value in model.screen_.items() if name != "halves"}
    model.save(tmp_path / "old")
    old = DBDiffusion.load(tmp_path / "old", adata=adata)
    assert set(old.predict_effects(unseen, **QUICK)["error_rate"]) == {"fdr_bh"}
    old.leave_out_folds()
    np.testing.assert_allclose(old.predict_effects(unseen, **QUICK)["adj_p_value"], right["adj_p_value"])
