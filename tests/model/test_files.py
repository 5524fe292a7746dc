import pytest

from dbdiffusion.model._files import move_into_place, write_whole


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    file = tmp_path / "a"
    write_whole(file, b"old")
    with pytest.raises(TypeError):
        write_whole(file, "no bytes")
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    write_whole(file, b"new")
    assert file.read_bytes() == b"new"


def unfinished(tmp_path, **files):
    folder = tmp_path / ".unfinished"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def test_a_new_folder_appears_whole(tmp_path):
    move_into_place(unfinished(tmp_path, model="m", cells="c"), tmp_path / "final", last="model")
    assert {path.name for path in (tmp_path / "final").iterdir()} == {"model", "cells"}
    assert not (tmp_path / ".unfinished").exists()


def test_other_files_of_a_folder_stay_and_named_ones_are_replaced(tmp_path):
    final = tmp_path / "final"
    final.mkdir()
    (final / "notes").write_text("mine")
    (final / "model").write_text("old")
    move_into_place(unfinished(tmp_path, model="new"), final, last="model")
    assert (final / "notes").read_text() == "mine"
    assert (final / "model").read_text() == "new"


def test_the_last_file_is_never_beside_files_it_does_not_belong_to(tmp_path, monkeypatch):
    final = tmp_path / "final"
    final.mkdir()
    (final / "model").write_text("old")
    (final / "cells").write_text("old")
    replace = type(final).replace

    def killed(self, target):
        if self.name == "model":
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(type(final), "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        move_into_place(unfinished(tmp_path, model="new", cells="new"), final, last="model")
    assert (final / "cells").read_text() == "new"
    assert not (final / "model").exists()
