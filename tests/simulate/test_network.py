import numpy as np
import pandas as pd
import pytest

from dbdiffusion import simulate_screen
from dbdiffusion.simulate._network import LARGEST_REGULATION, draw_network

OPTIONS = {"n_genes": 307, "n_perturbations": 23, "n_cells_per_perturbation": 4, "n_control_cells": 5, "mechanism": "network"}


def drawn(seed=0, **changes):
    options = {
        "n_genes": 307,
        "n_perturbations": 23,
        "n_combinations": 5,
        "effect_size": 0.5,
        "n_regulators": 31,
        "out_degree": 11.0,
        "measured_targets": 1.0,
    }
    return draw_network(np.random.default_rng(seed), **{**options, **changes})


@pytest.mark.parametrize("effect_size", [0.5, 5.0])
def test_regulators_pull_on_each_other_so_little_that_a_fixed_point_exists(effect_size):
    among = drawn(effect_size=effect_size, n_regulators=200).among
    assert among.nnz > 50
    assert abs(among).sum(axis=1).max() <= LARGEST_REGULATION + 1e-9
    assert not among.diagonal().any()


def test_out_degrees_have_the_mean_asked_for_and_a_heavy_tail():
    network = drawn(n_genes=3000, n_perturbations=200, n_regulators=200)
    degree = np.asarray((network.on_genes[~network.var["regulator"].to_numpy()] != 0).sum(axis=0)).ravel()
    assert abs(degree.mean() - 11) < 2
    assert degree.var() > 3 * degree.mean()


def test_regulators_activate_and_repress_and_housekeeping_genes_are_left_alone():
    network = drawn()
    assert (network.on_genes.data > 0).mean() > 0.4
    assert (network.on_genes.data < 0).any()
    assert network.on_genes[network.var["housekeeping"].to_numpy()].nnz == 0
    assert not (network.var["housekeeping"] & network.var["regulator"]).any()
    most = network.log_base[network.var["housekeeping"].to_numpy()].min()
    assert (network.log_base[~network.var["housekeeping"].to_numpy()] < most).all()


@pytest.mark.parametrize(("share", "measured"), [(1.0, 23), (0.5, 12), (0.0, 0)])
def test_knocked_out_genes_may_lie_outside_the_measured_ones(share, measured):
    network = drawn(measured_targets=share)
    singles = network.names[:23]
    assert len(network.var) == 307
    assert sum(name in network.var.index for name in singles) == measured
    assert len(set(singles)) == 23


def test_combinations_knock_both_out():
    network = drawn()
    for name, knocked in zip(network.names[23:], network.knocked[23:], strict=True):
        assert "+".join(network.regulators[knocked]) == name


def test_the_edges_in_uns_are_those_of_the_network():
    adata = simulate_screen(**OPTIONS, measured_targets=0.5, seed=3)
    edges, truth = adata.uns["true_network"], adata.uns["true_effects"]
    assert set(edges["regulator"]) <= set(adata.var_names[adata.var["regulator"]]) | set(truth.index)
    assert not edges.duplicated(["regulator", "gene"]).any()
    targets = edges.groupby("regulator")["gene"].agg(set)
    for name in truth.index:
        reached, new = {name}, {name}
        while new:
            new = set().union(*(targets.get(one, set()) for one in new)) - reached
            reached |= new
        changed = set(truth.columns[(truth.loc[name] != 0) & ~adata.var["housekeeping"]])
        assert changed == reached & set(adata.var_names)


def test_signs_are_those_of_the_edges_where_one_regulator_acts_alone():
    adata = simulate_screen(**OPTIONS, escape=0.0, library_size=50_000.0, seed=3)
    edges, truth = adata.uns["true_network"], adata.uns["true_effects"]
    alone = edges[~edges["gene"].duplicated(keep=False) & edges["regulator"].isin(truth.index)]
    strong = alone[alone["strength"].abs() > 0.5]
    effects = np.array([truth.loc[regulator, gene] for regulator, gene in strong[["regulator", "gene"]].to_numpy()])
    assert len(strong) > 20
    assert (np.sign(effects) == -np.sign(strong["strength"])).mean() > 0.95  # few have another path


def test_knobs_change_how_much_changes():
    def changed(**options) -> pd.Series:
        return (simulate_screen(**OPTIONS, **options, seed=1).uns["true_effects"] != 0).to_numpy().mean()

    def size(**options) -> float:
        return np.abs(simulate_screen(**OPTIONS, **options, seed=1).uns["true_effects"].to_numpy()).mean()

    assert changed(out_degree=3) < changed(out_degree=10) < changed(out_degree=40)
    assert size(effect_size=0.2) < size(effect_size=0.5) < size(effect_size=1.0)


def test_without_effects_only_the_target_and_housekeeping_genes_change():
    adata = simulate_screen(**OPTIONS, effect_size=0.0)
    truth, housekeeping = adata.uns["true_effects"], adata.var["housekeeping"].to_numpy()
    assert len(adata.uns["true_network"]) == 0
    for name, row in truth.iterrows():
        assert set(truth.columns[(row != 0) & ~housekeeping]) == {name}
        assert row[name] < -0.2
        assert np.abs(row[housekeeping]).max() < 0.3 * abs(row[name])
    hidden = simulate_screen(**OPTIONS, effect_size=0.0, measured_targets=0.0)
    assert not hidden.uns["true_effects"].to_numpy().any()
