import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dbdiffusion.plotting._panel import FONT, name_points


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
