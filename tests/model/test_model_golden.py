"""Tiny models whose weights are kept answer what they answered; ``golden/make.py`` writes both."""

import importlib.util
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from dbdiffusion import DBDiffusion

HERE = Path(__file__).parent / "golden"
spec = importlib.util.spec_from_file_location("golden_make", HERE / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


def test_they_are_small():
    assert sum(file.stat().st_size for file in HERE.rglob("*") if file.is_file()) < 700_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", sorted(make.KINDS))
def test_answers_are_those_of_before(kind):
    model = DBDiffusion.load_weights(HERE / kind, make.KINDS[kind]())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = make.answers(model)
    expected = json.loads((HERE / f"{kind}.json").read_text())
    assert told.keys() == expected.keys()
    for what, values in expected.items():
        largest = np.nanmax(np.abs(values), initial=0)
        np.testing.assert_allclose(told[what], values, rtol=1e-2, atol=1e-3 * largest, err_msg=what)
