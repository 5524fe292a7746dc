import numpy as np

from dbdiffusion.inference import References, fit_rectifier, leave_one_out


def test_left_out_intervals_cover_what_was_observed():
    covered = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        signal = rng.standard_normal((30, 60))
        truth = signal + 0.5 * np.exp(0.3 * rng.standard_normal(60)) * rng.standard_t(6, (30, 60))
        references = References(truth, np.zeros((30, 60)), np.zeros(60), {"signal": signal})
        low, high = leave_one_out(fit_rectifier(references), references).interval(0.9)
        covered.append(((low < truth) & (truth < high)).mean())
    assert 0.86 < np.mean(covered) < 0.94


def test_an_odd_reference_does_not_widen_its_own_interval():
    rng = np.random.default_rng(0)
    effect = rng.standard_normal((20, 80))
    odd = effect.copy()
    odd[3] *= 50
    se = []
    for seen in (effect, odd):
        references = References(seen, np.zeros_like(seen), np.zeros(80), {"nothing": 0 * seen})
        se.append(leave_one_out(fit_rectifier(references, lam=0.0, rho=0.0), references).se[3].mean())
    assert se[1] < 2 * se[0]
