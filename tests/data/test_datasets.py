import h5py
import mudata
import numpy as np
import pandas as pd
import pytest

from dbdiffusion.data import _datasets, read_screen, simulate_screen


def test_what_was_written_is_read(tmp_path):
    screen = simulate_screen(n_genes=31, n_perturbations=4, n_cells_per_perturbation=7, n_control_cells=11)
    screen.write_h5ad(tmp_path / "screen.h5ad")
    read = read_screen(tmp_path / "screen.h5ad")
    np.testing.assert_array_equal(read.X.toarray(), screen.X.toarray())
    pd.testing.assert_frame_equal(read.obs, screen.obs)
    pd.testing.assert_frame_equal(read.uns["true_effects"], screen.uns["true_effects"], check_names=False)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.h5ad' does not exist"):
        read_screen(tmp_path / "nowhere.h5ad")


def small_screen():
    return simulate_screen(n_genes=31, n_perturbations=4, n_cells_per_perturbation=7, n_control_cells=11)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder, but no zarr store"):
        read_screen(tmp_path)


def test_a_zarr_store_is_read(tmp_path):
    screen = small_screen()
    screen.write_zarr(tmp_path / "screen.zarr")
    read = read_screen(str(tmp_path / "screen.zarr"))
    np.testing.assert_array_equal(read.X.toarray(), screen.X.toarray())
    pd.testing.assert_frame_equal(read.obs, screen.obs)


def check_one_line(file):
    with pytest.raises(ValueError, match=file.name) as caught:
        read_screen(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("damage", "message"), [("while True: pass", "has no end within"), ("os.abort()", "crashes")])
def test_damage_on_which_the_hdf5_library_crashes_or_never_ends(tmp_path, monkeypatch, damage, message):
    """Some hundred zeros in the header of an object do either; which ones depends on the version of the library."""
    small_screen().write_h5ad(tmp_path / "screen.h5ad")
    monkeypatch.setattr(_datasets, "LOOK", f"import os\n{damage}")
    monkeypatch.setattr(_datasets, "SECONDS", 2)
    with pytest.raises(ValueError, match=message):
        read_screen(tmp_path / "screen.h5ad")


def test_a_mudata_file_is_named_as_one(tmp_path):
    mudata.MuData({"rna": small_screen()}).write(tmp_path / "screen.h5mu")
    with pytest.raises(ValueError, match=r"screen\.h5mu.*MuData.*write_h5ad"):
        read_screen(tmp_path / "screen.h5mu")


def test_files_that_were_cut_off_say_so(tmp_path):
    file = tmp_path / "screen.h5ad"
    small_screen().write_h5ad(file)
    content = file.read_bytes()
    for share in (0.001, 0.1, 0.5, 0.9, 0.99):
        file.write_bytes(content[: int(share * len(content))])
        check_one_line(file)


def test_stores_that_were_cut_off_say_so(tmp_path):
    store = tmp_path / "screen.zarr"
    small_screen().write_zarr(store)
    for file in [path for path in store.rglob("[0-9]*") if path.is_file()]:
        whole = file.read_bytes()
        for share in (0.5, 0.05, 0.97):
            file.write_bytes(whole[: int(share * len(whole))])
            check_one_line(store)
        file.write_bytes(whole)
        (file.parent / "Thumbs.db").write_bytes(b"of another program")
    assert read_screen(store).n_obs == small_screen().n_obs


def test_an_h5ad_file_with_a_foreign_element_is_refused_in_a_line(tmp_path):
    file = tmp_path / "screen.h5ad"
    small_screen().write_h5ad(file)
    with h5py.File(file, "r+") as handle:
        handle["X"].attrs["encoding-type"] = "matrix_of_the_future"
    check_one_line(file)


def test_another_kind_of_file_is_refused(tmp_path):
    file = tmp_path / "table.h5ad"
    file.write_text("gene,count\nMYC,3\n")
    with pytest.raises(ValueError, match=r"table\.h5ad' is not an h5ad file"):
        read_screen(file)


def test_an_hdf5_file_that_is_no_screen_is_refused(tmp_path):
    file = tmp_path / "other.h5ad"
    with h5py.File(file, "w") as handle:
        handle["matrix"] = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"other\.h5ad' is not an h5ad file"):
        read_screen(file)
