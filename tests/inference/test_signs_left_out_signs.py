"""Reliability of the local false sign rate."""

import numpy as np
import pytest

from dbdiffusion.inference import Signs, left_out_signs

N, K = 4_000, 40
ONE = np.ones(N)


def signs(misplaced, seed=0, flipped=False):
    rng = np.random.default_rng(seed)
    predicted = np.abs(rng.normal(0, 2, N))
    effect = np.where(rng.uniform(size=N) < misplaced, 0, predicted) + rng.standard_normal(N)
    seen = effect + rng.standard_normal(N)
    seen = np.where(flipped & (predicted > 1.4) & (predicted < 2.5), -seen, seen)
    return Signs(np.arange(N) % K, predicted, seen, ONE, 0 * ONE, ONE, 0 * ONE)


@pytest.mark.parametrize("misplaced", [0.05, 0.5])
def test_signs_of_the_law_are_as_expected_in_every_class(misplaced):
    table = left_out_signs(signs(misplaced))
    told = table[table["n_signs"] > 0]
    assert len(told) >= 3
    assert ((told["observed"] - told["expected"]).abs() <= np.maximum(0.03, 3.5 * told["observed_se"])).all()
    assert (told["expected"] > told["lfsr"]).all()  # noise turns signs as well
    assert told["lfsr"].between(told["lfsr_from"], told["lfsr_to"]).all()
    assert table["n_signs"].sum() == N


def test_what_no_such_law_says_is_seen():
    """Most signs of a class are wrong; no law says more than a half."""
    table = left_out_signs(signs(0.05, flipped=True))
    told = table[table["n_signs"] > 0]
    assert ((told["observed"] - told["expected"]).abs() > 0.07).any()


def test_too_few_references_fill_no_class():
    few = signs(0.1)
    few = few.subset(few.reference < 9)
    table = left_out_signs(few)
    assert table["n_signs"].sum() == 0
    assert table["lfsr"].isna().all()
