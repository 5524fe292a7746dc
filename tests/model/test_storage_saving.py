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


def test_a_prefix_or_a_folder_that_cannot_be_is_refused(stage_one, tmp_path):
    with pytest.raises(ValueError, match="prefix"):
        stage_one.save(tmp_path / "model", prefix="a/b")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        stage_one.save(tmp_path / "file", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_cells_of_another_save_are_noticed(stage_one, tmp_path):
    stage_one.save(tmp_path / "model", save_anndata=True)
    cells = tmp_path / "model" / "adata.h5ad"
    assert DBDiffusion.load(tmp_path / "model").adata.n_obs == stage_one.adata.n_obs
    changed = stage_one.adata.copy()
    changed.X = changed.X * 2
    changed.write_h5ad(cells)
    with pytest.raises(ValueError, match="not the file that was saved with the model"):
        DBDiffusion.load(tmp_path / "model")
    assert DBDiffusion.load(tmp_path / "model", adata=False).adata is None
    DBDiffusion.load(tmp_path / "model", adata=changed)


@pytest.mark.parametrize("content", [{"a": 1}, [1], "x", {"attr_dict": None, "model_state_dict": {}}])
def test_a_checkpoint_of_other_software_is_refused_in_words(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model\.pt.*cannot be loaded as a DBDiffusion"):
        DBDiffusion.load(tmp_path, adata=False)


def test_a_damaged_download_is_not_kept(stage_one, tmp_path, monkeypatch):
    def fetch(_url, folder, name):
        (tmp_path / folder / name).write_bytes(b"half")

    monkeypatch.setattr("dbdiffusion.model._storage.download", fetch)
    with pytest.raises(ValueError, match="no whole checkpoint"):
        DBDiffusion.load(tmp_path / "fetched", adata=False, backup_url="https://example.org/model.pt")
    assert list(tmp_path.iterdir()) == []


def test_the_registry_of_a_damaged_checkpoint_is_not_read(stage_one, tmp_path):
    stage_one.save(tmp_path / "model")
    assert DBDiffusion.load_registry(tmp_path / "model")["model_name"] == "DBDiffusion"
    file = tmp_path / "model" / "model.pt"
    file.write_bytes(file.read_bytes().replace(b"DBDiffusion", b"DBDiffusioN"))
    with pytest.raises(ValueError, match="no whole checkpoint"):
        DBDiffusion.load_registry(tmp_path / "model")


def test_load_says_that_checkpoints_are_pickles():
    assert "pickles" in DBDiffusion.load.__doc__
    assert "load_weights" in DBDiffusion.load.__doc__


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no saved model in .*it has no 'model.pt'"):
        DBDiffusion.load(tmp_path / "nowhere", adata=False)


def test_the_registry_of_what_is_no_saved_model_is_refused_in_words(tmp_path):
    (tmp_path / "model.pt").mkdir()
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ValueError, match="There is no saved model in"):
            DBDiffusion.load_registry(folder)
