import numpy as np
import pytest
import torch
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion


@pytest.fixture(scope="module")
def stage_one():
    adata = tiny_screen(n_perturbations=4)
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    model.train_vae(max_epochs=1, **QUIET)
    return model


def test_a_folder_is_not_replaced_unasked(stage_one, tmp_path):
    stage_one.save(tmp_path / "model")
    with pytest.raises(ValueError, match="already exists"):
        stage_one.save(tmp_path / "model")
    stage_one.save(tmp_path / "model", overwrite=True, save_anndata=True)
    assert {file.name for file in (tmp_path / "model").iterdir()} == {"model.pt", "adata.h5ad"}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_prefixes_share_a_folder(stage_one, tmp_path):
    for prefix in ("a_", "b_"):
        stage_one.save(tmp_path / "model", prefix=prefix, overwrite=True)
    assert {file.name for file in (tmp_path / "model").iterdir()} == {"a_model.pt", "b_model.pt"}
    loaded = DBDiffusion.load(tmp_path / "model", adata=stage_one.adata, prefix="b_")
    assert np.array_equal(loaded.get_latent_representation(), stage_one.get_latent_representation())


def test_a_failed_save_leaves_the_old_one(stage_one, tmp_path, monkeypatch):
    stage_one.save(tmp_path / "model")
    before = (tmp_path / "model" / "model.pt").read_bytes()

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        stage_one.save(tmp_path / "model", overwrite=True)
    assert (tmp_path / "model" / "model.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_checkpoint_that_is_cut_off_says_so(stage_one, tmp_path):
    stage_one.save(tmp_path / "model")
    file = tmp_path / "model" / "model.pt"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="no whole checkpoint"):
        DBDiffusion.load(tmp_path / "model", adata=False)


def test_load_says_that_checkpoints_are_pickles():
    assert "pickles" in DBDiffusion.load.__doc__
    assert "load_weights" in DBDiffusion.load.__doc__
