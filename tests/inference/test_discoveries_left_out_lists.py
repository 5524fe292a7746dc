"""What left-out lists were worth: nothing wrong where predictions are exact, nothing listed where they say nothing."""

import dataclasses

import numpy as np
import pytest

from dbdiffusion.inference import References, discoveries_of, fit_rectifier, left_out_lists
from dbdiffusion.inference._discoveries import wrongness
from dbdiffusion.screen import ControlHalves

K, G = 41, 70
ALL = np.ones(G, dtype=bool)


def lists_of(observed, predicted, **changes):
    references = References(observed, np.full((K, G), 1e-6), np.zeros(G), {"one": predicted})
    rectifier = dataclasses.replace(fit_rectifier(references), **changes)
    rule = discoveries_of(rectifier, references, ALL, None)
    return left_out_lists(rule, rectifier, references, ALL)


def test_exact_predictions_list_everything_and_nothing_is_wrong():
    truth = np.random.default_rng(0).standard_normal((K, G))
    table = lists_of(truth, truth)
    assert table.index.tolist() == [0.05, 0.1, 0.2]
    assert (table["n_listed"] == G).all()
    assert not table[["share_empty", "wrong", "pooled"]].to_numpy().any()
    assert table["least_promise"].unique() == pytest.approx([2 / (K + 1)])


def test_chance_lists_nothing_and_empty_lists_are_right():
    predicted, observed = np.random.default_rng(1).standard_normal((2, K, G))
    table = lists_of(observed, predicted, loo_predicted=predicted)
    assert (table["share_empty"] >= 0.8).all()
    assert (table["wrong"] <= table.index.to_numpy() + 2 * table["wrong_se"]).all()


def test_shares_fit_together():
    rng = np.random.default_rng(2)
    truth = rng.standard_normal((K, G))
    predicted = truth + 0.7 * rng.standard_normal((K, G))
    table = lists_of(truth, predicted, loo_predicted=predicted)
    assert (np.diff(table["n_listed"]) >= 0).all()
    np.testing.assert_allclose(table["wrong"], table["wrong_if_any"] * (1 - table["share_empty"]))
    assert (table["wrong"] <= table.index.to_numpy() + 2 * table["wrong_se"]).all()


def test_where_nothing_changed_half_of_the_signs_differ_and_count_twice():
    rng = np.random.default_rng(3)
    observed = rng.standard_normal((K, G))
    references = References(observed, np.ones((K, G)), np.zeros(G), {"one": observed})
    rectifier = dataclasses.replace(fit_rectifier(references), loo_predicted=rng.standard_normal((K, G)))
    assert abs(wrongness(rectifier, references).mean() - 1) < 0.06


def test_agreement_by_the_control_mean_s_error_is_wrong_half_of_the_time():
    rng = np.random.default_rng(4)
    error = rng.standard_normal(G)
    first = rng.standard_normal((6, 1, G))
    observed = np.repeat(-error[None], K, axis=0)
    references = References(observed, np.full((K, G), 1e-6), np.ones(G), {"one": observed})
    rectifier = dataclasses.replace(fit_rectifier(references), loo_predicted=observed, control_weight=1.0)
    assert wrongness(rectifier, references).max() == 0
    split = wrongness(rectifier, references, ControlHalves(first, -first, np.ones((K, 1))))
    assert 0.7 < split.mean() < 1.3
