import pytest

from dbdiffusion.job import check_output, whole_folder


def test_folder_appears_whole(tmp_path):
    out = tmp_path / "deep" / "results"
    with whole_folder(out, overwrite=False) as folder:
        (folder / "a").write_text("1")
        assert not out.exists()
    assert (out / "a").read_text() == "1"
    assert [p.name for p in out.parent.iterdir()] == ["results"]


def test_a_failure_leaves_what_was_there(tmp_path):
    out = tmp_path / "results"
    out.mkdir()
    (out / "old").write_text("old")

    def fail():
        with whole_folder(out, overwrite=True) as folder:
            (folder / "new").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [p.name for p in out.iterdir()] == ["old"]
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_overwrite_replaces_everything(tmp_path):
    out = tmp_path / "results"
    out.mkdir()
    (out / "old").write_text("old")
    with whole_folder(out, overwrite=True) as folder:
        (folder / "new").write_text("new")
    assert [p.name for p in out.iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_a_full_folder_or_a_file_is_refused(tmp_path):
    (tmp_path / "results").mkdir()
    check_output(tmp_path / "results", overwrite=False)
    (tmp_path / "results" / "mine").write_text("")
    with pytest.raises(FileExistsError, match="--overwrite"):
        check_output(tmp_path / "results", overwrite=False)
    with pytest.raises(FileExistsError, match="is a file"):
        check_output(tmp_path / "results" / "mine", overwrite=True)
