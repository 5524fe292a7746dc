"""Laws of the plot of comparisons: a point a number that is known, and every target named."""

import matplotlib as mpl
import numpy as np
import pandas as pd

from dbdiffusion import plotting

mpl.use("agg")


def test_a_point_a_target_and_names_as_they_are():
    import matplotlib.pyplot as plt

    table = pd.DataFrame({"target": ["A$x$", "B"], "context": ["d1", "d2"], "relative_to_zero": [0.5, 0.9]})
    table["relative_to_mean"] = np.nan
    _, ax = plt.subplots()
    plotting.errors_by_target(table, ax, "later")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A$x$, d1", "B, d2"]
    points, line = ax.get_lines()
    assert points.get_xdata().tolist() == [0.5, 0.9]
    assert points.get_ydata().tolist() == [1, 0]
    assert set(line.get_xdata()) == {1}
    assert ax.get_title() == "later"
