import numpy as np
import pandas as pd
import pytest

from dbdiffusion import data, simulate_screen
from dbdiffusion.screen import contrast_within_batches, grouped_moments, log1p_cp10k

SMALL = {"n_genes": 31, "n_perturbations": 7, "n_cells_per_perturbation": 15, "n_control_cells": 23, "n_modules": 5}


def observed_effects(adata):
    names = ["control", *adata.uns["true_effects"].index]
    codes = pd.Categorical(adata.obs["perturbation"], categories=names).codes.astype(int)
    batch = adata.obs["batch"].cat.codes.to_numpy().astype(int)
    n_batches = batch.max() + 1
    values = log1p_cp10k(adata.X, np.asarray(adata.X.sum(axis=1)).ravel())
    moments = grouped_moments([(values, codes * n_batches + batch)], len(names) * n_batches, adata.n_vars)
    return contrast_within_batches(moments, n_batches, 0).subset(np.arange(1, len(names)))


def same(a, b):
    return (
        a.shape == b.shape
        and (a.X != b.X).nnz == 0
        and a.obs.equals(b.obs)
        and a.var.equals(b.var)
        and a.uns["true_effects"].equals(b.uns["true_effects"])
    )


def test_same_seed_same_screen():
    options = {**SMALL, "n_combinations": 3}
    assert same(simulate_screen(**options, seed=3), simulate_screen(**options, seed=3))


def test_another_seed_another_screen():
    one, other = (simulate_screen(**SMALL, seed=seed).uns["true_effects"] for seed in (3, 4))
    assert not np.allclose(one, other)


def test_numpys_global_state_is_left_alone():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    simulate_screen(**SMALL)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_it_is_a_screen():
    adata = simulate_screen(**SMALL, n_combinations=3, n_batches=3, seed=1)
    sizes = adata.obs["perturbation"].value_counts()
    assert sizes["control"] == 23
    assert set(sizes.index) == {"control", *adata.uns["true_effects"].index}
    assert sizes.min() >= 2
    values = adata.X.toarray()
    assert adata.X.format == "csr"
    assert (values >= 0).all()
    assert (values == np.floor(values)).all()
    assert adata.obs["batch"].nunique() == 3
    assert not adata.obs.loc[adata.obs["perturbation"] == "control", "escaped"].any()
    singles = [name for name in adata.uns["true_effects"].index if "+" not in name]
    assert set(singles) <= set(adata.var_names)
    assert adata.uns["true_effects"].columns.equals(adata.var_names)


@pytest.mark.parametrize("escape", [0.0, 0.3])
def test_truth_is_what_many_cells_show(escape):
    adata = simulate_screen(
        n_genes=29,
        n_perturbations=5,
        n_combinations=2,
        n_cells_per_perturbation=2500,
        n_control_cells=10_000,
        n_modules=4,
        library_size=300.0,
        escape=escape,
        seed=2,
    )
    truth, observed = adata.uns["true_effects"].to_numpy(), observed_effects(adata)
    standardised = (observed.effect - truth) / np.sqrt(observed.variance + observed.control_variance)
    assert np.abs(truth).max() > 10 * np.sqrt(observed.variance.max())
    assert 0.7 < standardised.var() < 1.5
    assert np.abs(standardised).max() < 5


def test_the_truth_is_diluted_by_the_cells_that_escape():
    none, half = (simulate_screen(**SMALL, escape=escape).uns["true_effects"].to_numpy() for escape in (0.0, 0.5))
    slope = (half * none).sum() / (none**2).sum()
    np.testing.assert_allclose(slope, 0.5, rtol=0.03)
    np.testing.assert_allclose(half, 0.5 * none, atol=0.03 * np.abs(none).max())
    assert not simulate_screen(**SMALL, escape=1.0).uns["true_effects"].to_numpy().any()


def test_share_of_escaped_cells():
    adata = simulate_screen(**{**SMALL, "n_cells_per_perturbation": 300}, escape=0.3)
    perturbed = adata.obs["perturbation"] != "control"
    assert abs(adata.obs.loc[perturbed, "escaped"].mean() - 0.3) < 0.05


def module_similarity(alignment):
    adata = simulate_screen(
        n_genes=300, n_perturbations=40, n_cells_per_perturbation=2, n_control_cells=2, n_modules=5, alignment=alignment, seed=0
    )
    truth = adata.uns["true_effects"]
    effects = truth.to_numpy().copy()
    effects[np.arange(len(truth)), adata.var_names.get_indexer(truth.index)] = 0
    unit = effects / np.linalg.norm(effects, axis=1, keepdims=True)
    module = adata.var.loc[truth.index, "module"].to_numpy()
    pairs = np.triu(np.ones((len(truth), len(truth)), dtype=bool), k=1)
    equal = module[:, None] == module
    cosine = unit @ unit.T
    return cosine[pairs & equal].mean() - cosine[pairs & ~equal].mean()


def test_alignment_says_how_far_genes_of_a_module_act_alike():
    none, half, full = (module_similarity(alignment) for alignment in (0.0, 0.5, 1.0))
    assert abs(none) < 0.15
    assert none < half < full
    assert full > 0.5


def test_without_effects_only_the_target_changes():
    adata = simulate_screen(**SMALL, effect_size=0.0)
    truth = adata.uns["true_effects"]
    own = adata.var_names.get_indexer(truth.index)
    values = truth.to_numpy()
    own_effect = values[np.arange(len(truth)), own]
    assert (own_effect < -0.2).all()
    others = np.delete(values.ravel(), np.arange(len(truth)) * adata.n_vars + own)
    assert np.abs(others).max() < 0.3 * np.abs(own_effect).min()


def test_larger_effect_size_larger_effects():
    sizes = [simulate_screen(**SMALL, effect_size=size).uns["true_effects"].abs().to_numpy().mean() for size in (0.0, 0.3, 1.0)]
    assert (np.diff(sizes) > 0).all()


def test_small_effects_of_combinations_add():
    adata = simulate_screen(**SMALL, n_combinations=5, effect_size=0.1, seed=1)
    truth = adata.uns["true_effects"]
    combinations = [name for name in truth.index if "+" in name]
    assert len(set(combinations)) == 5
    for name in combinations:
        first, second = name.split("+")
        added = truth.loc[first] + truth.loc[second]
        assert np.corrcoef(truth.loc[name], added)[0, 1] > 0.97
        assert np.abs(truth.loc[name] - added).max() < 0.25 * np.abs(added).max()


def test_as_many_combinations_as_there_are_pairs():
    truth = simulate_screen(**SMALL, n_combinations=21).uns["true_effects"]
    assert truth.index.is_unique
    assert len(truth) == 28


NETWORK = {**SMALL, "n_genes": 61, "mechanism": "network", "out_degree": 6.0}
del NETWORK["n_modules"]
FAMILIES = {
    "modules": SMALL,
    "sparse": {**SMALL, "n_genes": 61, "unchanged": 0.5, "n_combinations": 4, "n_synergies": 2},
    "network": NETWORK,
    "hidden": {**NETWORK, "measured_targets": 0.5, "n_combinations": 3},
}


def test_the_simulator_is_public_where_it_always_was():
    assert data.simulate_screen is simulate_screen


@pytest.mark.parametrize("family", FAMILIES)
def test_same_seed_same_screen_in_every_family(family):
    one, other = (simulate_screen(**FAMILIES[family], seed=3) for _ in range(2))
    assert same(one, other)
    assert not np.array_equal(one.uns["true_effects"], simulate_screen(**FAMILIES[family], seed=4).uns["true_effects"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_screen_can_be_written_and_read(family, tmp_path):
    screen = simulate_screen(**FAMILIES[family], seed=1)
    screen.write_h5ad(tmp_path / "screen.h5ad")
    read = data.read_screen(tmp_path / "screen.h5ad")
    assert same(read, screen)
    assert set(read.uns) == set(screen.uns)
    for key in set(read.uns) - {"simulation"}:
        pd.testing.assert_frame_equal(read.uns[key], screen.uns[key], check_names=False, check_dtype=False)
    assert read.uns["simulation"] == screen.uns["simulation"]


def test_options_are_on_record():
    record = simulate_screen(**FAMILIES["hidden"], seed=5).uns["simulation"]
    assert record == {
        "mechanism": "network",
        "effect_size": 0.5,
        "escape": 0.15,
        "out_degree": 6.0,
        "measured_targets": 0.5,
        "seed": 5,
    }


@pytest.mark.parametrize(
    "own",
    [
        {"unchanged": 0.6, "n_modules": 4, "n_synergies": 1},
        {"mechanism": "network", "out_degree": 8.0, "measured_targets": 0.5},
    ],
    ids=["sparse", "network"],
)
def test_truth_is_what_many_cells_show_and_unchanged_genes_show_nothing(own):
    adata = simulate_screen(
        n_genes=67,
        n_perturbations=5,
        n_combinations=2,
        n_cells_per_perturbation=2500,
        n_control_cells=10_000,
        library_size=600.0,
        seed=2,
        **own,
    )
    truth, observed = adata.uns["true_effects"].to_numpy(), observed_effects(adata)
    standardised = (observed.effect - truth) / np.sqrt(observed.variance + observed.control_variance)
    assert np.abs(truth).max() > 10 * np.sqrt(observed.variance.max())
    for genes in (truth == 0, truth != 0):
        assert genes.sum() > 50
        assert 0.7 < standardised[genes].var() < 1.5
        assert np.abs(standardised[genes]).max() < 5
