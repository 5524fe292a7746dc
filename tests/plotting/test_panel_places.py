import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from dbdiffusion.plotting import perturbation_map
from dbdiffusion.plotting._panel import FONT, _overlap, _spots

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


def test_labels_of_a_crowd_do_not_cover_each_other():
    points = np.random.default_rng(0).uniform(0, 60, (6, 2))
    names = [f"GENE{i:03d}" for i in range(6)]
    spots = _spots(names, points, points, np.array([-60, -60, 120, 120]))
    assert _spots(names, points, points, np.array([-60, -60, 1, 120]))[0] != spots[0]  # nothing hangs over the frame
    starts = points + np.array(spots)
    boxes = np.hstack([starts, starts + np.array([0.6 * FONT * 7, FONT])])
    assert all(_overlap(boxes[i], boxes[j]) == 0 for i in range(6) for j in range(i))
