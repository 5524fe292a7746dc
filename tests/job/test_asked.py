import numpy as np
import pandas as pd
import pytest
from tiny import screen_in_two_contexts, tiny_screen

from dbdiffusion.job import parse_arguments
from dbdiffusion.job._asked import prepare


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("screen") / "screen.h5ad"
    tiny_screen(n_combinations=3).write_h5ad(path)
    return path


def asked(file, *options):
    return prepare(parse_arguments(["--h5ad", str(file), *options]))


def names_of(adata):
    return sorted(set(adata.obs["perturbation"].astype(str)) - {"control"})


def test_hidden_cells_are_in_one_part_and_the_model_is_of_the_other(file):
    one = asked(file, "--hold-out-n", "2", "--targets", "GENE59", "--batch-key", "batch")
    hidden = names_of(one.cells)
    assert len(hidden) == 2
    assert one.targets == [*hidden, "GENE59"]
    assert not set(hidden) & set(names_of(one.rest))
    assert one.model.perturbation_names == names_of(one.rest)
    assert one.model.adata is one.rest
    assert one.truth.shape == (16, 60)


def test_a_combination_is_hidden_in_every_order_and_under_the_name_asked_for(tmp_path):
    adata = tiny_screen(n_combinations=3)
    double = next(name for name in names_of(adata) if "+" in name)
    turned = " + ".join(reversed(double.split("+")))
    column = adata.obs["perturbation"].astype(str).to_numpy(dtype=object)
    column[np.flatnonzero(column == double)[::2]] = turned
    adata.obs["perturbation"] = column
    adata.write_h5ad(tmp_path / "screen.h5ad")
    one = asked(tmp_path / "screen.h5ad", "--hold-out", double)
    assert names_of(one.cells) == [double]
    assert one.cells.n_obs == np.isin(column, [double, turned]).sum()
    assert not {double, turned} & set(names_of(one.rest))


def test_listed_targets_are_checked_before_any_training(file, tmp_path):
    listed = tmp_path / "targets.txt"
    listed.write_text("GENE59\nGENE58+GENE57\n")
    one = asked(file, "--hold-out-n", "1", "--targets-file", str(listed))
    assert one.listed == ["GENE59", "GENE58+GENE57"]
    listed.write_text("GENE59\nGENE5x\n")
    with pytest.raises(KeyError, match="GENE5x"):
        asked(file, "--hold-out-n", "1", "--targets-file", str(listed))


@pytest.mark.parametrize(
    "table",
    [
        np.zeros(3),
        "text",
        pd.DataFrame({"other": [1.0]}, index=["GENE01"]),
        pd.DataFrame({"GENE01": ["a"]}, index=["GENE02"]),
        pd.DataFrame(np.eye(2), index=["GENE02"] * 2, columns=["GENE01", "GENE02"]),
    ],
)
def test_what_others_call_true_effects_is_left_alone(tmp_path, table):
    adata = tiny_screen()
    adata.uns["true_effects"] = table
    adata.write_h5ad(tmp_path / "screen.h5ad")
    assert asked(tmp_path / "screen.h5ad", "--hold-out-n", "1").truth is None


def test_a_target_may_be_measured_in_some_contexts_only(tmp_path):
    adata = screen_in_two_contexts()
    name = names_of(adata)[0]
    is_late = (adata.obs["perturbation"] == name) & (adata.obs["time"] == "late")
    path = tmp_path / "screen.h5ad"
    adata[~is_late.to_numpy()].copy().write_h5ad(path)
    assert asked(path, "--context-key", "time", "--targets", name).targets == [name]
    other = names_of(adata)[1]
    with pytest.raises(ValueError, match="its effect is measured"):
        asked(path, "--context-key", "time", "--targets", other)
    with pytest.raises(ValueError, match="its effect is measured"):
        asked(path, "--targets", name)


def test_the_seed_is_that_of_the_weights(file):
    first, again, other = (asked(file, "--hold-out-n", "1", "--seed", seed).model.module for seed in "001")
    weights = [dict(module.named_parameters())["z_encoder.mean_encoder.weight"] for module in (first, again, other)]
    assert (weights[0] == weights[1]).all()
    assert (weights[0] != weights[2]).any()


def test_only_what_can_be_predicted_without_its_cells_is_hidden_at_random(tmp_path):
    adata = tiny_screen(n_combinations=3)
    singles = [name for name in names_of(adata) if "+" not in name]
    adata.var_names = [f"OTHER_{name}" if name in singles[1:] else name for name in adata.var_names]
    adata.write_h5ad(tmp_path / "screen.h5ad")
    one = asked(tmp_path / "screen.h5ad", "--hold-out-n", "4")
    assert names_of(one.cells) == sorted([singles[0], *(name for name in names_of(adata) if "+" in name)])
    with pytest.raises(
        ValueError, match=rf"4 of {len(names_of(adata))} could be predicted without their cells.* At most 4, got 5"
    ):
        asked(tmp_path / "screen.h5ad", "--hold-out-n", "5")
