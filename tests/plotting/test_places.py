import pandas as pd
import pytest
from matplotlib.figure import Figure

from dbdiffusion.plotting import perturbation_map

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
