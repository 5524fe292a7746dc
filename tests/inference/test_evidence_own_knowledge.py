"""Laws of a predictor that has seen what it predicts: it is found out, and nobody else is accused."""

import numpy as np
import pytest

from dbdiffusion.inference import check_left_out

K, G = 30, 50


def screen(rng, noise=0.5):
    truth = rng.standard_normal((K, G))
    return truth, truth + noise * rng.standard_normal((K, G)), np.full((K, G), noise**2)


def test_the_truth_itself_is_hardly_ever_accused():
    accused = 0
    for seed in range(200):
        truth, observed, variance = screen(np.random.default_rng(seed))
        try:
            check_left_out(truth, observed, variance, "truth")
        except ValueError:
            accused += 1
    assert accused / 200 < 0.08


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_predictors_fitted_to_the_observations_are_refused(share):
    truth, observed, variance = screen(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"'GEARS'.*without its cells"):
        check_left_out((1 - share) * observed + share * truth, observed, variance, "GEARS")


def test_predictors_that_know_little_pass_with_their_error():
    truth, observed, variance = screen(np.random.default_rng(1))
    assert check_left_out(0 * truth, observed, variance, "zero") == pytest.approx(5, rel=0.1)
    assert check_left_out(truth, observed, 0 * variance, "exact") == np.inf


def test_a_copy_is_refused_even_where_no_noise_is_known():
    _, observed, variance = screen(np.random.default_rng(2))
    assert check_left_out(0.9 * observed, observed, 0 * variance, "scaled") == np.inf
