import numpy as np
import pandas as pd
import pytest

from dbdiffusion.job import parse_arguments
from dbdiffusion.job._answers import generate, predicted, with_observed
from dbdiffusion.job._evaluate import HeldOut

EFFECTS = pd.DataFrame({"target": ["A", "A", "B"], "variable": ["g", "h", "g"], "effect": [1.0, 2.0, 3.0], "status": "unseen"})


def held_out(effect):
    observed = pd.DataFrame({"target": "A", "variable": ["h", "g"], "effect": effect, "se": [0.1, 0.2]})
    return HeldOut(observed, {"A": 5}, {"A": 0.5})


def test_observed_effects_stand_beside_the_predicted_ones_of_their_gene():
    effects = EFFECTS.copy()
    effects.attrs = {"kept": True}
    truth = pd.DataFrame({"h": [8.0, 9.0], "k": [0.0, 0.0]}, index=["A", "C"])
    table = with_observed(effects, {None: held_out([7.0, 6.0])}, truth)
    np.testing.assert_array_equal(table["observed"], [6.0, 7.0, np.nan])
    np.testing.assert_array_equal(table["true_effect"], [np.nan, 8.0, np.nan])
    assert table.attrs == {"kept": True}
    np.testing.assert_array_equal(table["observed_se"], [0.2, 0.1, np.nan])
    assert "true_effect" not in with_observed(effects, {None: None}, None)


def test_observed_effects_are_those_of_their_context():
    effects = pd.concat([EFFECTS.assign(context=name) for name in ("early", "late")], ignore_index=True)
    table = with_observed(effects, {"early": held_out([7.0, 6.0]), "late": held_out([5.0, 4.0])}, None)
    np.testing.assert_array_equal(table["observed"], [6.0, 7.0, np.nan, 4.0, 5.0, np.nan])


def test_measured_targets_are_not_counted_as_predicted():
    table = EFFECTS.assign(status=["measured", "measured", "unseen"])
    assert predicted(table) == ["B"]
    in_two = pd.concat([table.assign(context="early"), EFFECTS.assign(context="late")])
    assert predicted(in_two) == ["B", "A"]


@pytest.mark.parametrize("contexts", [(None,), ("early", "late")])
def test_cells_of_every_context_are_told_apart(trained, unseen, contexts):
    arguments = parse_arguments(["--n-cells", "3", "--context-key", "time"])
    cells = generate(dict.fromkeys(contexts, trained), unseen, arguments)
    assert cells.n_obs == 3 * len(unseen) * len(contexts)
    assert cells.obs_names.is_unique
    assert ("time" in cells.obs) == (contexts != (None,))
