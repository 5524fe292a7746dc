"""Laws of rules without a reference: they are what refitting without it gives."""

import numpy as np
import pytest

from dbdiffusion.inference import References, fit_rectifier, left_out_rules

K, G, T = 25, 23, 7


def references(rng, **more):
    truth = rng.standard_normal((K, G)) * np.linspace(0.2, 2, G)
    predicted = {"good": truth + rng.standard_normal(truth.shape), "bad": rng.standard_normal(truth.shape)}
    observed = truth + 0.2 * rng.standard_normal(truth.shape)
    return References(observed, np.full(truth.shape, 0.04), np.full(G, 0.01), predicted, **more)


@pytest.mark.parametrize("lam", [None, 0.0, 0.7])
def test_a_rule_without_a_reference_is_refitting_without_it(lam):
    rng = np.random.default_rng(9)
    refs, w = references(rng), rng.standard_normal(G)
    target = {name: rng.standard_normal((T, G)) for name in refs.predicted}
    rectifier = fit_rectifier(refs, lam)
    rules = left_out_rules(rectifier, refs)
    each = rules.along(w, target)
    assert each.shape == (T, K)
    kept = np.arange(K) != 4
    predicted = {name: values[kept] for name, values in refs.predicted.items()}
    without = References(refs.effect[kept], refs.variance[kept], refs.control_variance, predicted)
    refitted = fit_rectifier(without, lam).estimate(target).effect @ w
    assert np.allclose(each[:, 4], refitted, rtol=0.02, atol=0.02 * np.abs(refitted).max())


def test_a_reference_without_itself_is_its_left_out_prediction():
    rng = np.random.default_rng(10)
    refs, w = references(rng), rng.standard_normal(G)
    rectifier = fit_rectifier(refs)
    rules = left_out_rules(rectifier, refs)
    assert np.allclose(np.diag(rules.along(w, refs.predicted)), rectifier.loo_predicted @ w)


def test_only_references_that_tell_the_spread_count():
    rng = np.random.default_rng(11)
    placed = np.arange(K) < 15
    refs = references(rng, placed=placed)
    rules = left_out_rules(fit_rectifier(refs), refs)
    assert rules.rows.tolist() == np.flatnonzero(placed).tolist()
    assert rules.along(np.ones(G), refs.predicted).shape == (K, 15)


def test_two_references_have_no_rules_without_one_of_them():
    two = References(np.ones((2, G)), np.ones((2, G)), np.zeros(G), {"one": np.ones((2, G))})
    with pytest.raises(ValueError, match="one of 2 references"):
        left_out_rules(fit_rectifier(two), two)
