from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch

from dbdiffusion.inference import References, fit_hierarchical

K, T, G = 30, 20, 150


@pytest.fixture(scope="module")
def screen():
    rng = np.random.default_rng(0)
    tau = 0.3 * np.exp(0.3 * rng.standard_normal(G))
    common, signal = 0.2 * rng.standard_normal(G), 0.5 * rng.standard_normal((K + T, G))
    truth = common + signal + tau * rng.standard_t(6, (K + T, G))
    seen = truth[T:] + 0.2 * rng.standard_normal((K, G)) - 0.05 * rng.standard_normal(G)
    predicted = {"good": signal[T:], "noise": rng.standard_normal((K, G))}
    references = References(seen, np.full((K, G), 0.04), np.full(G, 0.0025), predicted)
    return references, {"good": signal[:T], "noise": rng.standard_normal((T, G))}, truth[:T], common


@pytest.fixture(scope="module")
def fit(screen):
    return fit_hierarchical(screen[0])


def test_weights_offsets_and_convergence(fit, screen):
    assert 0.9 < fit.weights["good"] < 1.1
    assert fit.weights["noise"] < 0.05
    assert np.corrcoef(fit.offset, screen[3])[0, 1] > 0.9
    assert fit.converged
    assert fit.elbo[-1] > fit.elbo[0]


def test_posterior_predictive_covers_new_perturbations(fit, screen):
    _, target, truth, _ = screen
    for level, slack in ((0.5, 0.06), (0.8, 0.05), (0.95, 0.03)):
        low, high = fit.estimate(target).interval(level)
        assert abs(((low < truth) & (truth < high)).mean() - level) < slack


def test_the_mean_is_known_better_than_a_new_member(fit, screen):
    mean, prediction = (fit.estimate(screen[1], interval=kind) for kind in ("mean", "prediction"))
    assert (mean.se < prediction.se).all()


def test_same_seed_same_fit_and_no_trace_outside(screen):
    references = screen[0]
    pyro.param("of the user", torch.tensor(1.0))
    state = torch.random.get_rng_state()
    first, second = (fit_hierarchical(references, n_steps=20, seed=3) for _ in range(2))
    assert np.array_equal(first.offset, second.offset)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert list(pyro.get_param_store().keys()) == ["of the user"]
    pyro.clear_param_store()
    assert not fit_hierarchical(references, n_steps=20, seed=3).converged


def test_minibatches_of_genes_tell_the_same(screen, fit, monkeypatch):
    monkeypatch.setattr("dbdiffusion.inference._hierarchical.MAX_VALUES", K * 50)
    batched = fit_hierarchical(screen[0])
    assert abs(batched.weights["good"] - fit.weights["good"]) < 0.1
    assert np.corrcoef(batched.offset, fit.offset)[0, 1] > 0.9


def test_too_few_references_are_refused(screen):
    references = screen[0]
    few = replace(
        references,
        effect=references.effect[:2],
        variance=references.variance[:2],
        predicted={name: values[:2] for name, values in references.predicted.items()},
    )
    with pytest.raises(ValueError, match="at least 3"):
        fit_hierarchical(few)
