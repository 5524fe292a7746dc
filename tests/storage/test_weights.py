import json

import numpy as np
import pytest

from dbdiffusion.storage import DESCRIPTION, read_arrays, read_description, replaceable, write_weights

ARRAYS = {"module.a": np.arange(6.0).reshape(2, 3), "attribute.b": np.array([1, 2], dtype=np.int32)}
VERSIONS = {"dbdiffusion": "0"}


@pytest.fixture
def folder(tmp_path):
    write_weights(tmp_path / "model", {"one": 1}, ARRAYS, VERSIONS, replaceable(tmp_path / "model", overwrite=False))
    return tmp_path / "model"


def test_what_was_written_is_read(folder):
    description = read_description(folder)
    assert description["attributes"] == {"one": 1}
    for name, array in read_arrays(folder, description).items():
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_a_new_export_takes_the_place_of_the_old_one_and_of_nothing_else(folder):
    (folder / "notes.txt").write_text("mine")
    write_weights(folder, {}, {"module.a": np.ones(2)}, VERSIONS, replaceable(folder, overwrite=True))
    assert len(list(folder.glob("weights-*"))) == 1
    assert (folder / "notes.txt").read_text() == "mine"
    assert list(read_arrays(folder, read_description(folder))) == ["module.a"]


def test_models_are_not_replaced_unasked_nor_files_of_others(folder, tmp_path):
    with pytest.raises(FileExistsError, match="overwrite=True"):
        replaceable(folder, overwrite=False)
    (folder / DESCRIPTION).write_text("{}")
    with pytest.raises(FileExistsError, match="not written by `export_weights`"):
        replaceable(folder, overwrite=True)
    assert replaceable(tmp_path / "new", overwrite=False) is None


@pytest.mark.parametrize("change", [{"weights": "../secret"}, {"sha256": "0"}, {"format": "other"}, {"attributes": 3}])
def test_a_changed_description_is_refused(folder, change):
    description = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps({**description, **change}))
    with pytest.raises(ValueError, match=r"changed|format"):
        read_description(folder)
    (folder / DESCRIPTION).unlink()
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_description(folder)
