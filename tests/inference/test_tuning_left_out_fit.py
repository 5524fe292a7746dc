import numpy as np
import pytest

from dbdiffusion.inference import References, fit_rectifier
from dbdiffusion.inference._tuning import left_out_fit

K, G = 20, 31


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_it_is_what_the_rectifier_is_made_of(rng):
    seen = rng.standard_normal((K, G))
    references = References(seen, np.full((K, G), 0.1), np.zeros(G), {"model": seen + rng.standard_normal((K, G))})
    fit, rectifier = left_out_fit(references), fit_rectifier(references)
    assert rectifier.weights == {"model": fit.tuned.weight[0]}
    assert np.array_equal(rectifier.loo_predicted, fit.predicted)
    assert rectifier.control_weight == fit.control_weight
