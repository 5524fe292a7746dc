import signal

import pytest

from dbdiffusion.storage._files import unfinished_name, whole_files, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(folder, last="model", **files):
    with whole_files(folder, last=last) as unfinished:
        for name, content in files.items():
            (unfinished / name).write_text(content)


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    file = tmp_path / "a"
    write_whole(file, b"old")
    with pytest.raises(TypeError):
        write_whole(file, "no bytes")
    assert file.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]
    write_whole(file, b"new")
    assert file.read_bytes() == b"new"


def test_a_new_folder_appears_whole(tmp_path):
    with whole_files(tmp_path / "deep" / "final", last="model") as unfinished:
        (unfinished / "model").write_text("m")
        assert not (tmp_path / "deep" / "final").exists()
    assert names(tmp_path / "deep") == ["final"]
    assert names(tmp_path / "deep" / "final") == ["model"]


def test_other_files_of_a_folder_stay_and_named_ones_are_replaced(tmp_path):
    final = tmp_path / "final"
    write(final, notes="mine", model="old")
    write(final, model="new")
    assert (final / "notes").read_text() == "mine"
    assert (final / "model").read_text() == "new"
    assert names(final) == ["model", "notes"]


def test_a_folder_that_exists_is_written_on_its_own_file_system(tmp_path):
    """As a mount point must: nothing can be renamed into it from beside it."""
    (tmp_path / "mount").mkdir()
    with whole_files(tmp_path / "mount", last="model") as unfinished:
        assert unfinished.parent == tmp_path / "mount"
        (unfinished / "model").write_text("m")
    assert names(tmp_path / "mount") == ["model"]


@pytest.mark.parametrize("killed_at", ["cells", "model"])
def test_there_is_always_a_last_file_and_the_others_go_first(tmp_path, monkeypatch, killed_at):
    final = tmp_path / "final"
    write(final, model="old", cells="old")
    replace = type(final).replace

    def killed(self, target):
        if self.name == killed_at:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(type(final), "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(final, model="new", cells="new")
    assert (final / "cells").read_text() == ("new" if killed_at == "model" else "old")
    assert (final / "model").read_text() == "old"
    assert names(final) == ["cells", "model"]


@pytest.mark.parametrize("exists", [True, False])
def test_sigterm_leaves_no_stray_folder(tmp_path, exists):
    final = tmp_path / "final"
    if exists:
        write(final, model="old")

    def end_half_way():
        with whole_files(final, last="model") as unfinished:
            (unfinished / "half").write_text("")
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit):
        end_half_way()
    assert names(tmp_path) == (["final"] if exists else [])
    assert not exists or names(final) == ["model"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_names_of_unfinished_files_are_hidden_and_all_different(tmp_path):
    made = {unfinished_name(tmp_path, "a") for _ in range(20)}
    assert len(made) == 20
    assert all(path.name.startswith(".a.unfinished-") for path in made)
