import numpy as np
import pandas as pd
import pytest
from tiny import screen_in_two_contexts, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion


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
