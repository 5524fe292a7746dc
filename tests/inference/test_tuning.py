from dataclasses import replace

import numpy as np
import pytest

from dbdiffusion.inference import References
from dbdiffusion.inference._tuning import Tuning

K, G = 12, 40


@pytest.fixture
def references():
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((K, G))
    predicted = {"good": truth + 0.5 * rng.standard_normal((K, G)), "noise": rng.standard_normal((K, G))}
    return References(truth + 0.3 * rng.standard_normal((K, G)), np.full((K, G), 0.09), np.full(G, 0.01), predicted)


def risk(references, tuned, rho, weight):
    """Risk against the truth by the formula, one reference at a time."""
    observed, predicted = references.effect, np.stack(list(references.predicted.values()))
    residual = observed - np.tensordot(weight, predicted, axes=1)
    total = 0.0
    for i in range(K):
        others = np.delete(np.arange(K), i)
        error = residual[i] - rho * residual[others].mean(axis=0)
        control_weight = rho + (1 - rho) * (weight @ references.control_shares)
        total += (error**2).sum() + 2 * control_weight * references.control_variance.sum()
    return total


@pytest.mark.parametrize("share", [{}, {"good": 0.0}, {"good": 0.3, "noise": 0.0}])
def test_risk_is_the_formula_and_the_choice_its_minimum(references, share):
    references = replace(references, control_share=share)
    tuned = Tuning(references).choose()
    assert np.isclose(tuned.risk, risk(references, tuned, tuned.rho, tuned.weight), rtol=1e-6)
    rng = np.random.default_rng(1)
    for _ in range(50):
        weight, rho = np.abs(tuned.weight + 0.2 * rng.standard_normal(2)), rng.uniform()
        assert tuned.risk <= risk(references, tuned, np.round(rho, 1), weight) + 1e-6


def test_a_fixed_weight_belongs_to_the_first_predictor_alone(references):
    tuned = Tuning(references, lam=0.7).choose()
    assert tuned.weight.tolist() == [0.7, 0]
    assert tuned.rho == 1


@pytest.mark.parametrize("control", [0.0, 0.01])
def test_predictors_that_say_nothing_have_no_weight(references, control):
    nothing = {name: np.zeros((K, G)) for name in references.predicted}
    silent = replace(references, effect=np.zeros((K, G)), predicted=nothing, control_variance=np.full(G, control))
    assert Tuning(silent).choose().weight.tolist() == [0, 0]


def test_errors_do_not_depend_on_chunks_of_genes(references, monkeypatch):
    whole = Tuning(references).leave_one_out_errors()
    monkeypatch.setattr("dbdiffusion.inference._tuning.MAX_CHUNK", 5 * K * 3)
    np.testing.assert_allclose(Tuning(references).leave_one_out_errors(), whole)


def test_a_predictor_without_the_controls_error_is_not_passed_over_for_one_that_shares_it():
    rng = np.random.default_rng(0)
    n, genes, size = 30, 400, 0.6  # of the control's error, against effects of unit variance
    weights = []
    for _ in range(20):
        truth, e_0 = rng.standard_normal((n, genes)), size * rng.standard_normal(genes)
        predicted = {"free": truth + rng.standard_normal((n, genes)), "shares": truth + rng.standard_normal((n, genes)) - e_0}
        references = References(truth - e_0, np.zeros((n, genes)), np.full(genes, size**2), predicted)
        told = replace(references, control_share={"free": 0.0})
        weights.append([Tuning(one, rho=0.0).choose().weight for one in (references, told)])
    gram = np.array([[2, 1], [1, 2 + size**2]])  # of the predictors, per gene
    best = np.linalg.solve(gram, [1, 1])
    blind, informed = np.mean(weights, axis=0)
    np.testing.assert_allclose(informed, best, atol=0.02)
    assert blind[0] < best[0] - 0.05
