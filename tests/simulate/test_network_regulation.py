import numpy as np
import pandas as pd
import scipy.sparse as sp

from dbdiffusion.simulate._modules import Pairs
from dbdiffusion.simulate._network import KNOCKED_OUT, SATURATION, Network

GENES = ["A", "B", "C", "d", "e", "f", "g"]  # A -> B -> A is a cycle, B -> d, C -> e, nothing acts on f; g keeps house


def network(strength=1.0):
    among = np.array([[0, 0.5, 0], [-0.8, 0, 0], [0, 0, 0]]) * strength
    on_genes = np.vstack([among, [[0, 2, 0], [0, 0, -1], [0, 0, 0], [0, 0, 0]]]) * 1.0
    on_genes[3:] *= strength
    return Network(
        var=pd.DataFrame({"regulator": [True] * 3 + [False] * 4, "housekeeping": [False] * 6 + [True]}, index=GENES),
        regulators=pd.Index(GENES[:3]),
        pairs=Pairs(np.array([[0, 2]]), np.empty(0, dtype=int)),
        log_base=np.linspace(-1, 1, 7),
        among=sp.csr_matrix(among),
        on_genes=sp.csr_matrix(on_genes),
        knocked=np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1]], dtype=bool),
    )


def changes(net, code, noise):
    zero = np.zeros((len(noise), 7))
    without, perturbed = (net.shares(noise, zero, np.full(len(noise), c)) for c in (0, code))
    return np.log(perturbed / without)


def test_downstream_follows_paths_through_cycles():
    expected = [set("ABd"), set("ABd"), set("Ce"), set("ABCde")]
    net = network()
    assert [set(net.var.index[row]) for row in net.downstream] == expected
    assert net.names == ["A", "B", "C", "A+C"]


def test_only_what_is_downstream_changes_and_housekeeping_genes_make_up_for_it():
    noise = np.random.default_rng(0).standard_normal((5, 3))
    net = network()
    for code, downstream in enumerate(net.downstream, start=1):
        changed = (changes(net, code, noise) != 0).any(axis=0)
        assert (changed == downstream | (np.arange(7) == 6)).all()


def test_states_are_fixed_points():
    noise = np.random.default_rng(0).standard_normal((5, 3))
    net = network()
    for knocked in np.vstack([np.zeros(3, dtype=bool), net.knocked]):
        rates = net._log_rates(noise, np.tile(knocked, (5, 1)))
        activity = np.tanh(rates[:, :3] / 2)
        regulated = SATURATION * np.tanh((net.on_genes @ activity.T).T / SATURATION)
        np.testing.assert_allclose(rates[:, 3:], regulated[:, 3:], atol=1e-8)
        np.testing.assert_allclose(rates[:, :3], np.where(knocked, KNOCKED_OUT, regulated[:, :3] + noise), atol=1e-8)


def test_knock_outs_propagate_with_their_sign_and_saturate():
    noise = np.zeros((1, 3))
    small, large, huge = (
        changes(network(strength), 2, noise)[0] - changes(network(strength), 2, noise)[0, 6] for strength in (0.3, 1, 1e3)
    )
    assert small[3] < 0  # B activates d
    assert changes(network(), 3, noise)[0, 4] > 0  # C represses e
    assert large[3] < small[3]
    assert abs(large[3]) < abs(small[3]) / 0.3
    assert abs(huge[3]) <= SATURATION + 1e-6


def test_what_a_regulator_acts_on_follows_its_noise():
    noise = np.random.default_rng(0).standard_normal((2000, 3))
    rates = network()._log_rates(noise, np.zeros((2000, 3), dtype=bool))
    correlation = np.corrcoef(rates[:, :5].T)
    assert correlation[1, 3] > 0.9
    assert correlation[2, 4] < -0.9
    assert abs(correlation[3, 4]) < 0.1


def test_edges_are_listed_once():
    edges = network().edges()
    assert set(zip(edges["regulator"], edges["gene"], edges["strength"], strict=True)) == {
        ("B", "A", 0.5),
        ("A", "B", -0.8),
        ("B", "d", 2.0),
        ("C", "e", -1.0),
    }
