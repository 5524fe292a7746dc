"""What a run was made from."""

from argparse import Namespace
from pathlib import Path

from dbdiffusion.job._output import fingerprint, provenance


def test_it_names_what_was_given_zero_included(tmp_path):
    file = tmp_path / "screen.h5ad"
    file.write_bytes(b"counts")
    said = provenance(Namespace(h5ad=file, seed=0, targets=["MYC"], hold_out=[], layer=None, quiet=False, alignment=0.0))
    assert said["arguments"] == {"alignment": 0.0, "h5ad": str(file), "seed": 0, "targets": ["MYC"]}
    assert said["input"] == {"file": "screen.h5ad", "sha256": fingerprint(file)}
    assert said["versions"]["dbdiffusion"]


def test_a_simulated_screen_has_no_input():
    assert provenance(Namespace(h5ad=None, seed=1))["input"] is None


def test_a_folder_changes_with_its_files_and_their_names(tmp_path):
    def folder(name, files):
        for file, text in files.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return fingerprint(Path(tmp_path / name))

    first = folder("a", {"x/0": "1", "y/0": "2"})
    assert first == folder("b", {"y/0": "2", "x/0": "1"})
    assert len({first, folder("c", {"x/0": "1", "y/0": "3"}), folder("d", {"x/0": "1", "z/0": "2"})}) == 3
