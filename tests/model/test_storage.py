import copy

import numpy as np
import pytest

from dbdiffusion import DBDiffusion

WAYS = {
    "save": lambda model, folder: (model.save(folder, save_anndata=True), DBDiffusion.load(folder))[1],
    "weights": lambda model, folder: (model.export_weights(folder), DBDiffusion.load_weights(folder, model.adata))[1],
    "copy": lambda model, _: copy.deepcopy(model),
}


@pytest.mark.parametrize("way", WAYS)
def test_however_a_model_leaves_memory_it_comes_back_with_its_answers(trained, unseen, way, tmp_path):
    back = WAYS[way](trained, tmp_path / "model")
    assert back is not trained
    before, after = (model.predict_effects(unseen, n_cells=16)["effect"] for model in (trained, back))
    np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-7)
