import numpy as np
import pytest
from tiny import tiny_screen

from dbdiffusion.data import hold_out
from dbdiffusion.job import score_targets
from dbdiffusion.job._evaluate import observe, split_half_ceiling

SETUP = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}


@pytest.fixture(scope="module")
def held_out(trained, unseen):
    screen = tiny_screen()
    others = list(trained.perturbation_names)
    cells, _ = hold_out(screen, others)
    return observe(trained, cells, SETUP, seed=0)


def test_scores_leave_out_the_perturbed_gene(trained, unseen, held_out):
    effects = trained.predict_effects(unseen)
    spoiled = effects.copy()
    spoiled.loc[spoiled["variable"] == spoiled["target"], "effect"] += 100
    for a, b in zip(score_targets(trained, effects, held_out), score_targets(trained, spoiled, held_out), strict=True):
        assert a["mse"] == b["mse"]


def test_a_perfect_prediction_scores_perfectly(trained, unseen, held_out):
    effects = trained.predict_effects(unseen)
    order = effects[["target", "variable"]].merge(held_out.observed, how="left")
    for score in score_targets(trained, effects.assign(effect=order["effect"].to_numpy()), held_out):
        assert score["mse"] == 0
        assert score["coverage_95"] == 1
        assert score["pearson_effect"] == pytest.approx(1)


def test_mean_baseline_is_the_mean_of_the_measured(trained, unseen, held_out):
    score = score_targets(trained, trained.predict_effects(unseen[:1]), held_out)[0]
    observed = held_out.observed.query("target == @unseen[0]").set_index("variable")["effect"].drop(unseen[0])
    mean = dict(zip(trained.adata.var_names, trained._screen().observed.effect.mean(0), strict=True))
    assert score["mse_mean_baseline"] == pytest.approx(np.mean((observed - observed.index.map(mean)) ** 2))


def test_ceiling_lies_between_zero_and_one(held_out):
    assert all(0 <= value <= 1 for value in held_out.ceiling.values())


def test_without_cells_the_fields_are_empty(trained, unseen):
    score = score_targets(trained, trained.predict_effects(unseen[:1]), None)[0]
    assert score["mse"] is None
    assert score["n_de"] >= 0


def test_too_few_cells_to_halve_have_no_ceiling(trained, unseen):
    cells, _ = hold_out(tiny_screen(), list(trained.perturbation_names))
    rows = {name: np.flatnonzero(cells.obs["perturbation"] == name) for name in ("control", *unseen)}
    few, many = unseen

    def ceiling(n_control, n_few, n_many):
        chosen = np.concatenate([rows["control"][:n_control], rows[few][:n_few], rows[many][:n_many]])
        return split_half_ceiling(trained, cells[chosen].copy(), {**SETUP, "batch_key": None}, seed=0)

    one = ceiling(60, 3, 20)
    assert np.isnan(one[few])
    assert 0 <= one[many] <= 1
    assert np.isnan(list(ceiling(3, 20, 20).values())).all()
    assert np.isnan(list(ceiling(60, 3, 3).values())).all()
