"""Laws of rankings without a network: chunks change nothing; the rest is asked of a trained model in tests/model."""

import numpy as np
from tiny import tiny_model, tiny_screen, train_quickly

from dbdiffusion import DBDiffusion
from dbdiffusion.predict import GenerationOptions, Recipe, _ranking
from dbdiffusion.predict._ranking import rank


def test_chunks_of_candidates_change_nothing(trained, monkeypatch, recwarn):
    predictor, genes = trained.predictor(), list(trained.adata.var_names)
    names = [name for name in genes if not predictor.space.is_measured(name)][:7]
    recipe = Recipe(GenerationOptions(), confidence=0.8, n_cells=32)
    whole = rank(predictor, genes[0], names, recipe)
    monkeypatch.setattr(_ranking, "CHUNK", 3)
    in_parts = rank(predictor, genes[0], names, recipe).set_index("target").loc[whole["target"]]
    assert np.allclose(in_parts["effect"], whole["effect"], atol=1e-6)
    assert np.allclose(in_parts["p_value"], whole["p_value"])


def test_a_gene_that_hardly_a_cell_expresses_gives_no_p_value_to_measured_candidates():
    """Halves of control in which no cell expresses it would say that it never varies: p was 0 from one stray count."""
    adata = tiny_screen()
    rare = adata.var_names[-1]
    counts = adata.X.tolil()
    counts[:, -1] = 0
    strays = np.flatnonzero((adata.obs["perturbation"] != "control").to_numpy())[::60]
    counts[strays, -1] = 1
    adata.X = counts.tocsr()
    DBDiffusion.setup_anndata(adata)
    predictor = train_quickly(tiny_model(adata)).predictor()
    names, recipe = list(predictor.screen.names), Recipe(GenerationOptions(), confidence=0.8, n_cells=8)
    expressed = adata.var_names[np.asarray(adata.X.sum(axis=0)).ravel().argmax()]
    table = rank(predictor, rare, names, recipe)
    assert table[["p_value", "q_value", "ci_low", "ci_high"]].isna().all(axis=None)
    assert np.isfinite(table["effect"]).all()
    assert np.isfinite(rank(predictor, expressed, names, recipe)["p_value"]).all()
    both = rank(predictor, {rare: 1.0, expressed: 1.0}, names, recipe)
    assert np.isfinite(both["p_value"]).all()
