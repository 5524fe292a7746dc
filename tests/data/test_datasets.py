import h5py
import numpy as np
import pandas as pd
import pytest

from dbdiffusion.data import read_screen, simulate_screen


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


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_screen(tmp_path)


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
