"""Laws of tables of other models: rows are told by the perturbation, whatever the order of its parts."""

import numpy as np
import pandas as pd

from dbdiffusion.predict import OwnTable
from dbdiffusion.screen import NameRule


def test_rows_are_told_by_the_perturbation():
    table = pd.DataFrame(np.arange(6.0).reshape(3, 2), index=["A", "B+A", "C"], columns=["g", "h"])
    own = OwnTable(table, NameRule())
    assert own.of(["C", "A+B", "A"]).tolist() == [[4, 5], [2, 3], [0, 1]]
    assert own.holds("A+B")
    assert not own.holds("A+C")
