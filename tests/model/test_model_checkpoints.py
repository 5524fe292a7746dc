"""Checkpoints of every supported version of scvi-tools load on this one; ``checkpoints/make.py`` writes them."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny import QUIET, tiny_screen

from dbdiffusion import DBDiffusion

FOLDERS = sorted(path.parent for path in (Path(__file__).parent / "checkpoints").glob("*/expected.json"))
LOADERS = {
    "checkpoint": lambda folder, adata: DBDiffusion.load(folder / "checkpoint", adata=False if adata is None else adata),
    "weights": lambda folder, adata: DBDiffusion.load_weights(folder / "weights", adata),
}


is_old = np.lib.NumpyVersion(np.__version__) < "2.0.0"
unreadable = pytest.mark.skipif(is_old, reason="pickles of NumPy 2, which NumPy 1 cannot read")
of_any_kind = pytest.mark.parametrize("kind", [pytest.param("checkpoint", marks=unreadable), "weights"])
of_any_version = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_there_is_one_of_both_ends_of_the_supported_range():
    assert {folder.name for folder in FOLDERS} >= {"scvi-tools-1.4.2", "scvi-tools-1.5.1"}


def test_they_are_small():
    assert sum(file.stat().st_size for folder in FOLDERS for file in folder.rglob("*") if file.is_file()) < 1_000_000


@of_any_kind
@of_any_version
def test_a_checkpoint_of_any_version_predicts_what_it_predicted(folder, kind):
    expected = json.loads((folder / "expected.json").read_text())
    model = LOADERS[kind](folder, None)
    with pytest.warns(UserWarning, match="`model.leave_out_folds\\(\\)` mends that"):
        table = model.predict_effects(expected["names"])
    assert np.allclose(table["effect"], expected["effects"], rtol=1e-3, atol=1e-4)
    assert model.generate(expected["names"], n_cells=2).n_obs == 4
    assert np.isfinite(model.embedding_scores()["relative_to_mean"]).all()


def checkpoint_screen():
    return tiny_screen(n_genes=20, n_perturbations=5, n_cells_per_perturbation=12, n_control_cells=30)


@of_any_kind
@of_any_version
def test_its_evidence_is_mended_by_its_cells(folder, kind):
    expected = json.loads((folder / "expected.json").read_text())
    model = LOADERS[kind](folder, checkpoint_screen())
    measured = model.predict_effects(expected["names"][0])["effect"]
    space = model._space()
    model.leave_out_folds()
    table = model.predict_effects(expected["names"])  # a warning would be an error
    np.testing.assert_allclose(table["effect"][: len(measured)], measured, rtol=1e-5)  # single precision from now on
    assert np.isfinite(table["effect"]).all()
    for name in ("mean", "gene_scale", "components"):
        np.testing.assert_allclose(getattr(model._space().effects, name), getattr(space.effects, name), rtol=1e-4, atol=1e-6)
    assert set(model.reference_predictions(n_cells=16)["target"]) == set(model.perturbation_names)
    folds = model._screen().left_out.folds
    assert sorted(name for fold in folds for name in fold.scored) == sorted(model.perturbation_names)


@of_any_kind
@of_any_version
def test_a_checkpoint_of_any_version_goes_on_with_cells(folder, kind):
    expected = json.loads((folder / "expected.json").read_text())
    model = LOADERS[kind](folder, checkpoint_screen())
    assert np.allclose(model.get_latent_representation().mean(axis=0), expected["latent"], rtol=1e-3, atol=1e-4)
    model.train_diffusion(max_epochs=1, warm_start=True, **QUIET)
    assert np.isfinite(model.predict_effects(expected["names"])["effect"]).all()
