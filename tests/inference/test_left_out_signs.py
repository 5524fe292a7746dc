"""Reliability of the local false sign rate."""

import numpy as np
import pytest

from dbdiffusion.inference import SignLaw, Signs, left_out_signs

N, K = 24_000, 40
NORMAL = np.full(N, np.inf)


def signs(law, seed=0, disagrees=None):
    rng = np.random.default_rng(seed)
    z = np.abs(rng.normal(0, 2, N))
    wrong = rng.uniform(size=N) < law.wrong(z, NORMAL) if disagrees is None else disagrees(z)
    return Signs(np.arange(N) % K, z, NORMAL, z, NORMAL, wrong)


@pytest.mark.parametrize("law", [SignLaw(), SignLaw(0.5, 0.2), SignLaw(2.0, 0.0)])
def test_signs_of_the_law_are_as_expected_in_every_class(law):
    table = left_out_signs(signs(law))
    told = table["n_signs"] > 0
    assert told.sum() >= 3
    off = (table["observed"] - table["expected"])[told].abs()
    assert (off <= np.maximum(0.03, 3.5 * table["observed_se"][told])).all()
    np.testing.assert_allclose(table["expected"][told], table["lfsr"][told])
    assert table.loc[told, "lfsr"].between(table.loc[told, "lfsr_from"], table.loc[told, "lfsr_to"]).all()


def test_what_no_such_law_says_is_seen():
    """Of the surest signs none is wrong, of the next nearly half."""
    table = left_out_signs(signs(None, disagrees=lambda z: (z > 1) & (z < 2) & (np.arange(N) % 2 == 0)))
    told = table[table["n_signs"] > 0]
    assert ((told["observed"] - told["expected"]).abs() > 0.1).any()


def test_every_sign_is_in_one_class():
    table = left_out_signs(signs(SignLaw()))
    assert table["n_signs"].sum() == N
    assert table["n_references"].max() <= K
