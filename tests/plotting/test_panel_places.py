import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dbdiffusion.plotting import perturbation_map
from dbdiffusion.plotting._panel import FONT, name_points

TABLE = pd.DataFrame(
    {
        "target": ["control", "A", "B", "$x$", "<b>"],
        "status": ["control", "measured", "measured", "unseen", "unseen"],
        "x": [0.0, 1, 2, 3, 4],
        "y": [5.0, 6, 7, 8, 9],
    }
)


@pytest.mark.parametrize(("n_labels", "named"), [(2, ["A", "B", "$x$", "<b>"]), (1, ["$x$"]), (0, [])])
def test_unseen_ones_are_named_and_measured_ones_if_they_are_few(n_labels, named):
    ax = perturbation_map(TABLE, Figure().subplots(), "day 2", n_labels)
    assert sorted(text.get_text() for text in ax.texts) == sorted(named)
    assert not any(text.get_parse_math() for text in ax.texts)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["measured", "control", "unseen"]
    assert ax.get_title() == "day 2"


def test_dots_lie_where_the_table_says():
    ax = perturbation_map(TABLE[TABLE["status"] == "unseen"], Figure().subplots())
    assert ax.collections[0].get_offsets().tolist() == [[3, 8], [4, 9]]


def boxes_of(ax):
    renderer = FigureCanvasAgg(ax.figure).get_renderer()
    return np.array([text.get_window_extent(renderer).extents for text in ax.texts])


def test_labels_of_a_crowd_do_not_cover_each_other_and_are_the_same_every_time():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 1, (14, 2)) * [1, 0.3]
    points[3:6] = points[3] + rng.normal(0, 1e-3, (3, 2))  # and where three lie together
    names = [(f"GENE{i:03d}", *place, "black") for i, place in enumerate(points)]
    before, after, again = (Figure().subplots() for _ in range(3))
    for ax in (before, after, again):
        ax.scatter(*points.T)
    for name, x, y, _ in names:
        before.text(x, y, name, fontsize=FONT)
    name_points(after, names, points)
    name_points(again, names, points)
    assert overlaps(boxes_of(before)) > 2
    assert overlaps(boxes_of(after)) == 0
    assert np.array_equal(boxes_of(after), boxes_of(again))


def overlaps(boxes):
    return sum(
        bool((np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]) > 1).all())  # more than a pixel
        for i, one in enumerate(boxes) for other in boxes[:i]
    )  # fmt: skip
