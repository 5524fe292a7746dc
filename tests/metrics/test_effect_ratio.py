import numpy as np
import pytest

from dbdiffusion.metrics import error_ratio

N = 60


@pytest.fixture
def errors():
    rng = np.random.default_rng(0)
    baseline = rng.gamma(2.0, 1.0, N)
    return 0.7 * baseline + rng.gamma(1.0, 0.3, N), baseline


def test_the_ratio_is_that_of_the_sums(errors):
    error, baseline = errors
    assert error_ratio(error, baseline)[0] == pytest.approx(error.sum() / baseline.sum())
    assert error_ratio(error, baseline)[0] != pytest.approx(np.mean(error / baseline), rel=0.01)


def test_the_standard_error_is_that_of_perturbations_drawn_anew(errors):
    error, baseline = errors
    drawn = np.random.default_rng(1).integers(0, N, (5000, N))
    expected = (error[drawn].sum(axis=1) / baseline[drawn].sum(axis=1)).std()
    assert error_ratio(error, baseline)[1] == pytest.approx(expected, rel=0.1)


def test_scale_cancels(errors):
    error, baseline = errors
    np.testing.assert_allclose(error_ratio(5 * error, 5 * baseline), error_ratio(error, baseline))
    np.testing.assert_allclose(error_ratio(5 * error, baseline), 5 * np.array(error_ratio(error, baseline)))


def test_a_baseline_against_itself_is_one_for_certain(errors):
    np.testing.assert_allclose(error_ratio(errors[1], errors[1]), (1, 0), atol=1e-12)


def test_errors_below_zero_are_what_is_left_when_noise_was_taken_out():
    assert error_ratio(np.array([-1.0, 2.0]), np.array([1.0, 3.0]))[0] == pytest.approx(0.25)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("baseline", [[], [0.0, 0.0], [1.0, -2.0]])
def test_without_an_error_of_the_baseline_there_is_no_ratio(baseline):
    assert np.isnan(error_ratio(np.ones(len(baseline)), np.array(baseline))).all()


def test_one_perturbation_has_no_standard_error():
    ratio, se = error_ratio(np.array([1.0]), np.array([4.0]))
    assert ratio == 0.25
    assert np.isnan(se)
