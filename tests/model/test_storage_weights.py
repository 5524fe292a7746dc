import json
import pickle

import numpy as np
import pytest
import torch
from tiny import QUIET, tiny_model, tiny_screen

from dbdiffusion import DBDiffusion
from dbdiffusion.storage._weights import UNSIGNED


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
        np.testing.assert_allclose(*(table[numbers] for table in tables), rtol=1e-6, atol=1e-8)
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
        (lambda f: rewrite(f, weights="../elsewhere"), ValueError, "changed after it was written"),
        (lambda f: rewrite(f, format=UNSIGNED, weights="../elsewhere"), ValueError, "beside"),
        (lambda f: rewrite(f, format=UNSIGNED, attributes={"dict": {"a": 1}}), ValueError, "init_params_"),
        (lambda f: rewrite(f, format=UNSIGNED, attributes={"array": "nowhere"}), ValueError, "not as they were written"),
        (lambda f: rewrite(f, format=UNSIGNED, weights=None), FileNotFoundError, "whole folder"),
        (lambda f: rewrite(f, format=UNSIGNED, sha256=None), ValueError, "checksum"),
        (lambda f: (f / "model.json").write_text("[" * 100_000), ValueError, "JSON"),
    ],
)
def test_damaged_files_are_refused(exported, tmp_path, change, error, match):
    with pytest.raises(error, match=match):
        DBDiffusion.load_weights(damaged(exported, tmp_path, change))


def test_a_description_may_be_laid_out_anew(exported, tmp_path):
    folder = damaged(exported, tmp_path, lambda f: rewrite(f))
    assert DBDiffusion.load_weights(folder).perturbation_names


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"predict_effects": "x", "module": "x"}, "no attributes of a saved model"),
        ({"history_": "x"}, "no saved model has there"),
        ({"get_normalized_function_name_": "export_weights"}, "no saved model has there"),
    ],
)
def test_no_description_sets_what_is_not_an_attribute_of_a_saved_model(exported, tmp_path, change, match):
    attributes = json.loads((exported / "model.json").read_text())["attributes"]
    attributes["dict"] |= change
    folder = damaged(exported, tmp_path, lambda f: rewrite(f, format=UNSIGNED, attributes=attributes))
    with pytest.raises(ValueError, match=match):
        DBDiffusion.load_weights(folder)


@pytest.mark.parametrize("arguments", [{"n_hidden": 10**9}, {"n_folds": 10**8}, {"n_latent": 6}, {"n_hidden": "many"}])
def test_no_declared_size_is_allocated_unseen(exported, tmp_path, arguments):
    attributes = json.loads((exported / "model.json").read_text())["attributes"]
    attributes["dict"]["init_params_"]["dict"]["non_kwargs"]["dict"] |= arguments
    folder = damaged(exported, tmp_path, lambda f: rewrite(f, format=UNSIGNED, attributes=attributes))
    with pytest.raises(ValueError, match=r"model\.json declares"):
        DBDiffusion.load_weights(folder)


def test_nothing_is_deleted_that_was_not_written(trained, tmp_path):
    others = [tmp_path / name for name in ("weights-of-mine.safetensors", "weights-0123456789abcdef.safetensors", "notes.txt")]
    for other in others:
        other.write_text("precious")
    trained.export_weights(tmp_path)
    mine = next(file for file in tmp_path.glob("weights-*") if file not in others)
    rewrite(tmp_path, format=UNSIGNED, weights="weights-of-mine.safetensors")
    trained.export_weights(tmp_path, overwrite=True)
    assert all(other.read_text() == "precious" for other in others)
    assert {file.name for file in tmp_path.iterdir()} == {mine.name, "model.json", *(other.name for other in others)}


@pytest.mark.parametrize("content", ["{}", "no json", '{"format": "another"}', "[1]"])
def test_a_description_of_other_software_is_not_replaced(trained, tmp_path, content):
    (tmp_path / "model.json").write_text(content)
    for overwrite in (True, False):
        with pytest.raises(FileExistsError, match="choose another folder"):
            trained.export_weights(tmp_path, overwrite=overwrite)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("model.json", content)]
