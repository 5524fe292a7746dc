import json
import pickle

import numpy as np
import pytest
import torch
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    trained.export_weights(folder)
    return folder


def test_a_model_without_cells_predicts_and_generates_the_same(trained, unseen, exported):
    loaded = DBDiffusion.load_weights(exported)
    assert np.array_equal(loaded.generate(unseen, n_cells=5).X.toarray(), trained.generate(unseen, n_cells=5).X.toarray())
    for cross_fitting in ("embedding", "k_fold"):
        tables = [model.predict_effects(unseen, cross_fitting=cross_fitting) for model in (trained, loaded)]
        numbers = tables[0].select_dtypes("number").columns
        np.testing.assert_allclose(*(table["effect"] for table in tables), rtol=1e-6, atol=1e-8)
        # the error law is found by a search, which makes more of differences in the last digit
        np.testing.assert_allclose(*(table[numbers] for table in tables), rtol=1e-3, atol=1e-6)
    assert loaded.history["diffusion_train_loss"].equals(trained.history["diffusion_train_loss"])


def test_with_cells_it_goes_on(trained, exported):
    loaded = DBDiffusion.load_weights(exported, trained.adata)
    assert np.array_equal(loaded.get_latent_representation(), trained.get_latent_representation())
    assert np.array_equal(loaded.train_indices, trained.train_indices)
    for key, value in trained.module.state_dict().items():
        assert torch.equal(value, loaded.module.state_dict()[key]), key
    loaded.train_diffusion(max_epochs=1, warm_start=True, **QUIET)
    assert loaded.generate(loaded.perturbation_names[0], n_cells=2).n_obs == 2


def test_attributes_are_those_of_the_model(trained, exported):
    loaded = DBDiffusion.load_weights(exported)
    names = {name for name, _ in trained._get_user_attributes() if name.endswith("_")}
    assert names == {name for name, _ in loaded._get_user_attributes() if name.endswith("_")}
    assert loaded.init_params_ == trained.init_params_
    assert loaded.registry_["setup_args"] == trained.registry_["setup_args"]


def test_no_file_is_a_pickle(exported):
    for file in exported.iterdir():
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, KeyError, AttributeError, IndexError)):
            pickle.loads(file.read_bytes())
    assert {file.suffix for file in exported.iterdir()} == {".json", ".safetensors"}


def test_after_stage_one_and_with_every_covariate(tmp_path):
    adata = tiny_screen(n_perturbations=4)
    adata.obs["lane"] = np.where(np.arange(adata.n_obs) % 2, "a", "b")
    adata.obs["phase"] = np.linspace(0, 1, adata.n_obs)
    DBDiffusion.setup_anndata(
        adata, batch_key="batch", labels_key="lane", categorical_covariate_keys=["lane"], continuous_covariate_keys=["phase"]
    )
    model = tiny_model(adata)
    model.train_vae(max_epochs=1, **QUIET)
    model.export_weights(tmp_path / "model")
    for cells in (None, adata):
        loaded = DBDiffusion.load_weights(tmp_path / "model", cells)
        with pytest.raises(RuntimeError, match="train_diffusion"):
            loaded.generate("GENE01")
    loaded.train_diffusion(max_epochs=1, **QUIET)
    loaded.export_weights(tmp_path / "model", overwrite=True)
    assert len(list((tmp_path / "model").glob("weights-*"))) == 1
    again = DBDiffusion.load_weights(tmp_path / "model")
    assert again.generate(model.perturbation_names[0], n_cells=2).n_obs == 2
    with pytest.raises(FileExistsError, match="overwrite=True"):
        loaded.export_weights(tmp_path / "model")


def damaged(exported, tmp_path, change):
    folder = tmp_path / "damaged"
    folder.mkdir()
    for file in exported.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    change(folder)
    return folder


def rewrite(folder, **changes):
    file = folder / "model.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def cut(folder, pattern, share=0.7):
    file = next(folder.glob(pattern))
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda f: cut(f, "weights-*"), ValueError, "checksum"),
        (lambda f: cut(f, "model.json"), ValueError, "JSON"),
        (lambda f: next(f.glob("weights-*")).unlink(), FileNotFoundError, "whole folder"),
        (lambda f: (f / "model.json").unlink(), FileNotFoundError, "export_weights"),
        (lambda f: rewrite(f, format="another"), ValueError, "format"),
        (lambda f: rewrite(f, weights="../elsewhere"), ValueError, "beside"),
    ],
)
def test_damaged_files_are_refused(exported, tmp_path, change, error, match):
    with pytest.raises(error, match=match):
        DBDiffusion.load_weights(damaged(exported, tmp_path, change))
