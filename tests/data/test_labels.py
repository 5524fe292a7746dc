import numpy as np
import pandas as pd
import pytest

from dbdiffusion.data import labels_in, perturbations_in
from dbdiffusion.data._labels import canonical_labels, codes_of
from dbdiffusion.screen import NameRule


def read(frame, perturbation_key, control):
    return perturbations_in(frame, perturbation_key, NameRule(control))


def obs(column):
    return pd.DataFrame({"perturbation": column, "batch": "x"})


@pytest.mark.parametrize("kind", [list, pd.Categorical])
def test_a_column_in_the_convention_is_accepted(kind):
    frame = obs(kind(["control", "A", "control", "B", "A+B"]))
    before = frame.copy()
    read(frame, "perturbation", "control")
    pd.testing.assert_frame_equal(frame, before)


def test_names_that_are_numbers_are_accepted():
    read(obs([0, 0, 5, 7]), "perturbation", "0")


def test_a_missing_column_is_named_with_a_close_one():
    with pytest.raises(KeyError, match=r"'pertubation' is not in adata\.obs.*Did you mean 'perturbation'"):
        read(obs(["control", "control", "A"]), "pertubation", "control")
    with pytest.raises(KeyError, match="'guide'") as caught:
        read(obs(["control", "control", "A"]), "guide", "control")
    assert "Did you mean" not in str(caught.value)


@pytest.mark.parametrize("missing", [None, np.nan, "", "  "])
def test_missing_names_are_refused(missing):
    with pytest.raises(ValueError, match="missing or empty"):
        read(obs(["control", "control", "A", missing]), "perturbation", "control")


def test_an_absent_control_is_named_with_a_close_one():
    with pytest.raises(ValueError, match=r"`control` 'Control'.*'control'.*setup_anndata"):
        read(obs(["control", "control", "A"]), "perturbation", "Control")
    with pytest.raises(ValueError, match=r"'xyz'.*'control'"):
        read(obs(["control", "control", "A"]), "perturbation", "xyz")


def test_an_unused_category_is_no_control():
    column = pd.Categorical(["A", "B", "B"], categories=["A", "B", "control"])
    with pytest.raises(ValueError, match="control"):
        read(obs(column), "perturbation", "control")


def test_one_control_cell_is_too_few():
    with pytest.raises(ValueError, match=r"At least 2 control cells.*got 1"):
        read(obs(["control", "A", "A"]), "perturbation", "control")


@pytest.mark.parametrize("kind", [list, lambda c: pd.Categorical(c, categories=["control", "A"])])
def test_control_alone_is_too_little(kind):
    with pytest.raises(ValueError, match="At least one perturbation beside control 'control'"):
        read(obs(kind(["control"] * 3)), "perturbation", "control")


def test_labels_that_mean_the_same_get_one_name():
    column = ["ctrl", "ctrl", "A+B", "B+A", "B+A", "A+ctrl", "ctrl+ctrl", "A", "A+A"]
    found = read(obs(column), "perturbation", "ctrl")
    assert found.tolist() == ["ctrl", "ctrl", "B+A", "B+A", "B+A", "A", "ctrl", "A", "A"]
    assert list(found.index) == list(range(len(column)))


def test_control_may_be_written_as_two_guides():
    assert read(obs(["NT+NT", "NT+NT", "A+NT"]), "perturbation", "NT").tolist() == ["NT", "NT", "A"]


def test_what_a_model_knows_keeps_its_name():
    labels = pd.Series(["A+B", "A+B", "C", "D+C", "C+D", "C+D"])
    found = canonical_labels(labels, NameRule(), ["B+A", "control"])
    assert found.tolist() == ["B+A", "B+A", "C", "C+D", "C+D", "C+D"]
    both = canonical_labels(labels, NameRule(), ["A+B", "B+A"])  # as models registered them before order was read
    assert both.tolist()[:2] == ["A+B", "A+B"]


def test_a_column_that_is_there_twice_is_refused():
    frame = pd.concat([obs(["control", "control", "A"])] * 2, axis=1)
    with pytest.raises(ValueError, match="more than once"):
        labels_in(frame, "perturbation")


def test_codes_are_positions():
    assert codes_of(pd.Series(["b", "a", "b"]), ["a", "b"]).tolist() == [1, 0, 1]
