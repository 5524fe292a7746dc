import numpy as np
import pytest
import scipy.sparse as sp
from tiny import tiny_model, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.model import _screen
from dbdiffusion.model._screen import Screen, ScreenReader


def reader(adata, **setup):
    DBDiffusion.setup_anndata(adata, **setup)
    return ScreenReader(tiny_model(adata).adata_manager)


def test_dictionary_round_trip():
    screen = reader(tiny_screen(), batch_key="batch").read()
    again = Screen.from_dict(screen.to_dict())
    assert again.names == screen.names
    assert np.array_equal(again.observed.effect, screen.observed.effect)
    assert np.array_equal(again.context["batch"], screen.context["batch"])


def test_pool_is_control_cells():
    adata = tiny_screen()
    screen = reader(adata, batch_key="batch").read()
    control = (adata.obs["perturbation"] == "control").to_numpy()
    assert np.array_equal(screen.library, np.asarray(adata.X.sum(1)).ravel()[control])
    assert np.array_equal(screen.context["batch"].ravel(), adata.obs["batch"].cat.codes[control])


def test_gene_space_without_a_perturbation_ignores_its_cells():
    adata = tiny_screen()
    name = str(adata.obs["perturbation"].iloc[-1])
    without = reader(adata).gene_vectors((name,))
    spoiled = adata.copy()
    rows = np.flatnonzero(spoiled.obs["perturbation"] == name)
    x = spoiled.X.tolil()
    x[rows] = 7
    spoiled.X = x.tocsr()
    again = reader(spoiled).gene_vectors((name,))
    assert np.allclose(without @ without.T, again @ again.T, atol=1e-5)
    of_all = reader(spoiled).gene_vectors()
    assert not np.allclose(of_all @ of_all.T, again @ again.T, atol=1e-3)


@pytest.mark.parametrize("key", ["batch_key", "context_key"])
@pytest.mark.parametrize("max_cells", [20_000, 300])
def test_gene_space_ignores_what_differs_between_batches_and_contexts(monkeypatch, key, max_cells):
    monkeypatch.setattr(_screen, "MAX_GENE_SPACE_CELLS", max_cells)
    adata = tiny_screen()
    adata.obs["side"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    marker = np.random.default_rng(0).random(adata.n_vars) < 0.3
    x = adata.X.toarray()
    x[np.ix_(adata.obs["side"] == "a", marker)] += 20
    adata.X = sp.csr_matrix(x)

    def of_sides(**setup):
        vectors = reader(adata, **setup).gene_vectors()
        return np.abs((vectors[marker] @ vectors[marker].T).mean() - (vectors[marker] @ vectors[~marker].T).mean())

    assert of_sides(**{key: "side"}) < 0.3 * of_sides()


def test_effects_of_a_batch_effect_alone_are_small():
    adata = tiny_screen(effect_size=0.0)
    rng = np.random.default_rng(0)
    adata.obs["side"] = np.where(rng.random(adata.n_obs) < 0.5, "a", "b")
    _, observed = reader(adata, batch_key="side").effects()
    z = observed.effect / np.sqrt(observed.variance + observed.control_variance)
    assert 0.8 < np.median(np.abs(z)) / 0.6745 < 1.2
