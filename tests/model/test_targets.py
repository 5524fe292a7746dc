import numpy as np
import pandas as pd
import pytest
from tiny import screen_in_two_contexts, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.model._targets import target_names

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
    names = target_names(HOLDERS[kind](["B", "A", "C"]))
    assert names == ["B", "A", "C"]
    assert {type(name) for name in names} == {str}


@pytest.mark.parametrize("name", ["A", np.str_("A"), np.array("A"), np.array(["A"])[0]])
def test_one_name_of_any_kind_of_text(name):
    assert target_names(name) == ["A"]


def test_a_set_has_an_order_of_its_own():
    assert target_names({"C", "A", "B"}) == target_names(frozenset("BCA")) == ["A", "B", "C"]


@pytest.mark.parametrize(
    "targets",
    [
        None, 3, 1.5, [], (), [["A"]], [1], ["A", None], b"A", {"A": 1}, pd.DataFrame({"A": [1]}), np.array([["A"]]),
        np.array(3), iter([]), object(), [b"A"], [np.nan],
    ],
)  # fmt: skip
def test_what_is_no_list_of_names_is_refused_in_words(targets):
    with pytest.raises(ValueError, match="`targets` must be the name of a perturbation or a list of names"):
        target_names(targets)


def test_long_things_are_not_shown_whole():
    with pytest.raises(ValueError, match="…") as caught:
        target_names(list(range(10_000)))
    assert len(str(caught.value)) < 400


@pytest.fixture(scope="module")
def untrained():
    adata = tiny_screen()
    adata.uns["vectors"] = pd.DataFrame(np.eye(2), index=[adata.obs["perturbation"].astype(str).unique()[1], "ELSEWHERE"])
    DBDiffusion.setup_anndata(adata, embedding_key="vectors")
    return tiny_model(adata)


def test_targets_that_can_be_answered_are_known_before_training(untrained):
    gene = next(name for name in untrained.adata.var_names if name not in untrained.perturbation_names)
    untrained.check_targets([untrained.perturbation_names[0], gene, f"{gene}+{untrained.perturbation_names[0]}"])
    with pytest.raises(KeyError, match="nothing places"):
        untrained.check_targets(f"{gene}+NOTAGENE")
    with pytest.raises(ValueError, match="compared with"):
        untrained.check_targets([gene, "control"])
    with pytest.raises(ValueError, match="list of names"):
        untrained.check_targets([])


def test_a_strategy_that_cannot_learn_is_known_before_training(untrained):
    try:
        untrained.set_strategy("table")
        with pytest.raises(ValueError, match="at least 2 measured perturbations with a vector, got 1"):
            untrained.check_targets("ELSEWHERE")
        untrained.set_strategy("mean")
        untrained.check_targets("WHATEVER")
    finally:
        untrained.set_strategy("auto")


def test_before_training_it_says_what_it_says_after(trained, unseen):
    for target in (*unseen, "NOTAGENE", trained.perturbation_names[0], "control", f"{unseen[0]}+NOTAGENE"):
        said = []
        for ask in (trained.check_targets, trained.predict_effects):
            try:
                ask(target)
                said.append(None)
            except (KeyError, ValueError) as error:
                said.append((type(error), str(error)))
        assert said[0] == said[1]


def test_every_context_is_asked():
    adata = screen_in_two_contexts()
    name = sorted(set(adata.obs["perturbation"]) - {"control"})[0]
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace(name, "NOGENE")
    late = ((adata.obs["perturbation"] == "NOGENE") & (adata.obs["time"] == "late")).to_numpy()
    for cells in (adata, adata[~late].copy()):
        DBDiffusion.setup_anndata(cells, context_key="time")
        model = tiny_model(cells)
        if cells is adata:
            model.check_targets("NOGENE")
            continue
        with pytest.raises(KeyError, match="nothing places"):
            model.check_targets("NOGENE")
