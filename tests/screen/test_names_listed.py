import numpy as np
import pandas as pd
import pytest

from dbdiffusion.screen import listed_names, one_name

HOLDERS = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "array of objects": lambda names: np.array(names, dtype=object),
    "index": pd.Index,
    "series": pd.Series,
    "series of strings": lambda names: pd.Series(names, dtype="string"),
    "categories": pd.Categorical,
    "iterator": iter,
    "generator": lambda names: (name for name in names),
    "keys": lambda names: dict.fromkeys(names).keys(),
}


@pytest.mark.parametrize("kind", sorted(HOLDERS))
def test_names_are_read_from_whatever_holds_them(kind):
    names = listed_names(HOLDERS[kind](["B", "A", "C"]))
    assert names == ["B", "A", "C"]
    assert {type(name) for name in names} == {str}


@pytest.mark.parametrize("name", ["A", np.str_("A"), np.array("A"), np.array(["A"])[0]])
def test_one_name_of_any_kind_of_text(name):
    assert listed_names(name) == ["A"]


def test_a_set_has_an_order_of_its_own():
    assert listed_names({"C", "A", "B"}) == listed_names(frozenset("BCA")) == ["A", "B", "C"]


@pytest.mark.parametrize(
    "targets",
    [
        None, 3, 1.5, [], (), [["A"]], [1], ["A", None], b"A", {"A": 1}, pd.DataFrame({"A": [1]}), np.array([["A"]]),
        np.array(3), iter([]), object(), [b"A"], [np.nan],
    ],
)  # fmt: skip
def test_what_is_no_list_of_names_is_refused_in_words(targets):
    with pytest.raises(ValueError, match="`targets` must be the name of a perturbation or a list of names"):
        listed_names(targets)


def test_long_things_are_not_shown_whole():
    with pytest.raises(ValueError, match="…") as caught:
        listed_names(list(range(10_000)))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["A", np.str_("A"), np.array("A")])
def test_the_name_of_one_perturbation(name):
    assert one_name(name) == "A"
    assert type(one_name(name)) is str


@pytest.mark.parametrize("name", [None, 3, ["A"], b"A", np.array(["A"]), float("nan"), {"A": 1}])
def test_what_is_no_name_is_refused_in_words(name):
    with pytest.raises(ValueError, match="`name` must be the name of a perturbation, got"):
        one_name(name)


def test_the_message_names_the_argument():
    with pytest.raises(ValueError, match="`perturbations` must be"):
        listed_names(3, "perturbations")
