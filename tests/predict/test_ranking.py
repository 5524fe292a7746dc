"""Laws of rankings without a network: chunks change nothing; the rest is asked of a trained model in tests/model."""

import numpy as np

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
