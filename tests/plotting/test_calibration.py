import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from dbdiffusion.plotting import coverage_by_level, null_quantiles, pit_histogram, sign_reliability


@pytest.fixture
def ax():
    return Figure().subplots()


def test_coverage_points_are_those_of_the_table(ax):
    table = pd.DataFrame(
        {"level": [0.5, 0.9], "coverage": [0.52, 0.88], "coverage_se": [0.02, 0.01], "coverage_mean": [0.5, 0.95]}
    )
    assert coverage_by_level(table, ax, "title") is ax
    drawn = [line.get_xydata() for line in ax.get_lines()]
    assert any(np.allclose(points, table[["level", "coverage"]]) for points in drawn if len(points) == 2)
    assert ax.get_title() == "title"


def test_histogram_of_uniform_values_is_flat_and_skips_nan(ax):
    pit = np.linspace(0.0005, 0.9995, 1000).reshape(10, 100)
    pit[0, :3] = np.nan
    pit_histogram(pit, ax, n_bins=5)
    assert np.allclose([bar.get_height() for bar in ax.patches], 1, atol=0.02)


def test_classes_without_signs_are_not_drawn(ax):
    table = pd.DataFrame(
        {"n_signs": [30, 0, 10], "expected": [0.1, np.nan, 0.4], "observed": [0.2, np.nan, 0.5], "observed_se": 0.01}
    )
    assert sign_reliability(table, ax, "title") is ax
    (points,) = [one for one in ax.collections if hasattr(one, "get_sizes") and len(one.get_offsets()) == 2]
    np.testing.assert_allclose(points.get_offsets(), [[0.1, 0.2], [0.4, 0.5]])
    assert np.diff(points.get_sizes()) < 0


def test_uniform_p_values_lie_on_the_diagonal(ax):
    p_values = (np.arange(1000) + 0.5).reshape(10, 100) / 1000
    null_quantiles(p_values, ax)
    x, y = ax.get_lines()[1].get_data()
    assert np.allclose(x, y, atol=1e-6)
    assert x.max() > 3


def test_without_any_p_value_nothing_is_drawn(ax):
    null_quantiles(np.full((2, 3), np.nan), ax)
    assert len(ax.get_lines()[1].get_xdata()) == 0
