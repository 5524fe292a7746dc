import copy
import pickle
import subprocess
import sys
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import pytest
import scvi
from tiny import QUIET, screen_in_two_contexts, tiny_guides, tiny_model, tiny_screen

import dbdiffusion
from dbdiffusion import DBDiffusion

WAYS = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda one: pickle.loads(pickle.dumps(one))}
UNSEEN, QUICK = "GENE58", {"n_cells": 16, "n_steps": 4}


def trained_briefly(data, epochs=1):
    scvi.settings.seed = 0
    model = tiny_model(data)
    model.train(max_epochs=epochs, max_epochs_diffusion=epochs, **QUIET)
    return model


def plain():
    adata = tiny_screen(n_perturbations=6)
    DBDiffusion.setup_anndata(adata, batch_key="batch")
    return trained_briefly(adata)


def with_contexts():
    adata = screen_in_two_contexts()
    DBDiffusion.setup_anndata(adata, batch_key="batch", context_key="time")
    return trained_briefly(adata)


def of_mudata():
    screen = tiny_screen(n_perturbations=6)
    mdata = mudata.MuData({"rna": screen, "guide": tiny_guides(screen)})
    DBDiffusion.setup_mudata(mdata, modalities={"rna_layer": "rna", "guide_layer": "guide"})
    return trained_briefly(mdata)


def minified():
    model = plain()
    model.adata.obsm["X_latent_qzm"], model.adata.obsm["X_latent_qzv"] = model.get_latent_representation(return_dist=True)
    model.minify_adata()
    return model


def without_cells():
    model = plain()
    model.cross_fit(max_epochs=1)
    model._adata = model._adata_manager = None
    return model


KINDS = {make.__name__: make for make in (plain, with_contexts, of_mudata, minified, without_cells)}


@pytest.fixture(scope="module", params=sorted(KINDS))
def model(request):
    """One that has predicted, so that its caches are full; tests must not change it."""
    model = KINDS[request.param]()
    answer(model)
    return model


def answer(model):
    table = model.predict_effects([UNSEEN, model.perturbation_names[0]], **QUICK)
    context = {"context": model.contexts[0]} if model.contexts else {}
    return table, model.generate(UNSEEN, n_cells=5, **context).X.toarray()


def assert_same(one, other):
    pd.testing.assert_frame_equal(one[0], other[0], check_exact=True)
    np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_copy_answers_as_the_original(model, way):
    copied = WAYS[way](model)
    right = answer(model)
    assert_same(answer(copied), right)
    if model.adata is not None:
        np.testing.assert_array_equal(copied.get_latent_representation(), model.get_latent_representation())
    assert copied.id != model.id
    assert not set(map(id, copied._predictors.values())) & set(map(id, model._predictors.values()))
    assert_same(answer(model), right)


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
def test_what_becomes_of_a_copy_does_not_touch_the_original(way):
    model = plain()
    right, split = answer(model), model.train_indices.copy()
    copied = WAYS[way](model)
    copied.set_strategy("mean")
    copied.train_vae(max_epochs=2, **QUIET)
    copied.train_diffusion(max_epochs=2, **QUIET)
    copied.add_perturbations(["GENE57"])
    assert not np.allclose(answer(copied)[0]["effect"], right[0]["effect"])
    assert_same(answer(model), right)
    assert model.strategy == "auto"
    assert "GENE57" not in model.perturbation_names
    np.testing.assert_array_equal(model.train_indices, split)
    assert copied.adata is not model.adata
    pd.testing.assert_frame_equal(copied.observed_effects(), model.observed_effects())


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_view_of_a_context_can_be_copied(way):
    model = with_contexts()
    view = model.in_context("late")
    right = view.predict_effects(UNSEEN, **QUICK)
    copied = WAYS[way](view)
    pd.testing.assert_frame_equal(copied.predict_effects(UNSEEN, **QUICK), right, check_exact=True)
    assert (copied._model is model) == (way == "copy")
    assert not hasattr(copied, "no_such_attribute")


IN_ANOTHER_PROCESS = """
import pickle, sys
sys.path.insert(0, sys.argv[3])
with open(sys.argv[1], "rb") as file:
    model = pickle.load(file)
from test_storage_copies import answer
found = answer(model), model.get_latent_representation(), model.observed_effects()
model.train_diffusion(max_epochs=1, enable_progress_bar=False)
with open(sys.argv[2], "wb") as file:
    pickle.dump(found, file)
"""


def test_a_model_can_be_sent_to_another_process(tmp_path):
    model = with_contexts()
    (tmp_path / "model").write_bytes(pickle.dumps(model))
    paths = [str(Path(dbdiffusion.__file__).parents[1]), str(Path(__file__).parents[1])]
    command = [sys.executable, "-W", "ignore", "-c", IN_ANOTHER_PROCESS, str(tmp_path / "model"), str(tmp_path / "found")]
    environment = {"PYTHONPATH": ":".join(paths), "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(Path(__file__).parent)], env=environment, check=True, capture_output=True)
    found, latent, observed = pickle.loads((tmp_path / "found").read_bytes())
    right = answer(model)
    pd.testing.assert_frame_equal(found[0], right[0])
    np.testing.assert_array_equal(found[1], right[1])
    np.testing.assert_array_equal(latent, model.get_latent_representation())
    pd.testing.assert_frame_equal(observed, model.observed_effects())
