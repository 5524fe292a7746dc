import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from dbdiffusion.job import check_output, whole_folder
from dbdiffusion.job._output import check_space

SUMMARY = json.dumps({"versions": {"dbdiffusion": "0"}})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def earlier_report(folder, **files):
    folder.mkdir(parents=True)
    for name, content in {"report.md": "old", "summary.json": SUMMARY, **files}.items():
        (folder / name).write_text(content)
    return folder


def write(out, content="new", fail=None, overwrite=True):
    with whole_folder(out, overwrite=overwrite) as folder:
        (folder / "report.md").write_text(content)
        if fail is not None:
            fail(folder)


def test_folder_appears_whole(tmp_path):
    out = tmp_path / "deep" / "results"
    with whole_folder(out, overwrite=False) as folder:
        (folder / "report.md").write_text("1")
        assert not out.exists()
    assert (out / "report.md").read_text() == "1"
    assert names(out.parent) == ["results"]


def break_off(_folder):
    raise KeyboardInterrupt


def end_by_sigterm(_folder):
    os.kill(os.getpid(), signal.SIGTERM)


def fail_early(_folder):
    raise ValueError("a failure")


@pytest.mark.parametrize(
    ("fail", "error"), [(break_off, KeyboardInterrupt), (end_by_sigterm, SystemExit), (fail_early, ValueError)]
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_leaves_what_was_there_and_no_stray_folder(tmp_path, fail, error, exists):
    out = tmp_path / "results"
    if exists:
        earlier_report(out)
    with pytest.raises(error):
        write(out, fail=fail)
    assert names(tmp_path) == (["results"] if exists else [])
    assert not exists or (out / "report.md").read_text() == "old"


def test_a_failure_after_the_results_keeps_them(tmp_path):
    def fail_late(folder):
        (folder / "summary.json").write_text(SUMMARY)
        raise ValueError("no plots")

    with pytest.raises(ValueError, match="no plots"):
        write(tmp_path / "results", fail=fail_late)
    assert names(tmp_path / "results") == ["report.md", "summary.json"]
    with pytest.raises(ValueError, match="no plots"):
        write(tmp_path / "results", content="newer", fail=fail_late)
    assert (tmp_path / "results" / "report.md").read_text() == "newer"
    assert names(tmp_path) == ["results"]


def test_overwrite_replaces_an_earlier_report(tmp_path):
    out = earlier_report(tmp_path / "results", **{"effects.csv": "old"})
    write(out)
    assert names(out) == ["report.md"]
    assert names(tmp_path) == ["results"]


def test_a_report_or_a_file_is_not_replaced_unasked(tmp_path):
    earlier_report(tmp_path / "results")
    with pytest.raises(FileExistsError, match="--overwrite"):
        check_output(tmp_path / "results", overwrite=False)
    for out in (tmp_path / "results" / "report.md", tmp_path / "results" / "report.md" / "deep"):
        with pytest.raises(FileExistsError, match="is a file"):
            check_output(out, overwrite=True)
    (tmp_path / "empty" / "lost+found").mkdir(parents=True)
    check_output(tmp_path / "empty", overwrite=False)


def spoil(folder, how):
    if how == "no report":
        (folder / "summary.json").unlink()
    elif how == "other summary":
        (folder / "summary.json").write_text('{"accuracy": 1}')
    elif how == "no summary":
        (folder / "summary.json").write_text("{")
    else:
        (folder / how).parent.mkdir(exist_ok=True)
        (folder / how).write_text("precious")


@pytest.mark.parametrize("how", ["no report", "other summary", "no summary", "notes.txt", "model/mine.pt", ".git/HEAD"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_that_is_no_earlier_report_is_refused(tmp_path, how, overwrite):
    out = earlier_report(tmp_path / "results")
    spoil(out, how)
    before = sorted(out.rglob("*"))
    with pytest.raises(FileExistsError, match="no report of this job wrote"):
        write(out, overwrite=overwrite)
    assert sorted(out.rglob("*")) == before
    assert names(tmp_path) == ["results"]


@pytest.mark.parametrize("out", ["", ".", "..", "../project", "/", "~"])
def test_the_present_folder_and_those_that_hold_it_are_refused(tmp_path, monkeypatch, out):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ValueError, match="folder of its own"):
        check_output(Path(out).expanduser(), overwrite=True)


def test_the_input_and_folders_around_it_are_refused(tmp_path):
    (tmp_path / "data" / "screen.zarr").mkdir(parents=True)
    source = tmp_path / "data" / "screen.zarr"
    for out in (source, source / "results", tmp_path / "data", tmp_path):
        with pytest.raises(ValueError, match="holds the input"):
            check_output(out, overwrite=True, source=source)
    check_output(tmp_path / "data" / "results", overwrite=True, source=source)
    (tmp_path / "link").symlink_to(tmp_path / "data")
    with pytest.raises(ValueError, match="holds the input"):
        check_output(tmp_path / "link", overwrite=True, source=source)


@pytest.mark.parametrize("existed", [True, False])
def test_a_folder_that_others_fill_meanwhile_stays(tmp_path, existed):
    out = tmp_path / "results"
    if existed:
        out.mkdir()

    def fill(_folder):
        out.mkdir(exist_ok=True)
        (out / "notes.txt").write_text("made meanwhile")

    with pytest.raises(FileExistsError, match=r"results-1.*taken while the job ran"):
        write(out, fail=fill, overwrite=False)
    assert names(out) == ["notes.txt"]
    assert names(tmp_path / "results-1") == ["report.md"]
    assert names(tmp_path) == ["results", "results-1"]


@pytest.fixture
def volume(tmp_path, monkeypatch):
    """A mount point: it cannot be renamed, nor anything be renamed into it from beside it."""
    out = tmp_path / "volume"
    out.mkdir()
    is_mount, rename = Path.is_mount, Path.rename

    def checked(self, target):
        assert out not in (self, Path(target)), "a mount point cannot be renamed or replaced"
        assert (out in self.parents) == (out in Path(target).parents), "from one file system to another"
        return rename(self, target)

    monkeypatch.setattr(Path, "is_mount", lambda self: self == out or is_mount(self))
    monkeypatch.setattr(Path, "rename", checked)
    return out


def test_a_mount_point_is_written_and_replaced_from_inside(volume):
    (volume / "lost+found").mkdir()
    write(volume, overwrite=False)
    assert names(volume) == ["lost+found", "report.md"]
    (volume / "summary.json").write_text(SUMMARY)
    (volume / "volcano.png").write_text("")
    write(volume, content="newer")
    assert names(volume) == ["lost+found", "report.md"]
    assert (volume / "report.md").read_text() == "newer"


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_an_exchange_in_a_mount_point_is_done_or_undone(volume, monkeypatch, at):
    for name, content in {"report.md": "old", "summary.json": SUMMARY}.items():
        (volume / name).write_text(content)
    rename, done = Path.rename, []

    def broken_off(self, target):
        if len(done) == at:
            done.append("broken off")
            raise KeyboardInterrupt
        done.append(target)
        return rename(self, target)

    def also(folder):
        (folder / "summary.json").write_text(SUMMARY.replace("0", "1"))
        monkeypatch.setattr(Path, "rename", broken_off)

    with pytest.raises(KeyboardInterrupt):
        write(volume, fail=also)
    assert names(volume) == ["report.md", "summary.json"]
    assert (volume / "report.md").read_text() == "old"
    assert (volume / "summary.json").read_text() == SUMMARY


def test_what_cannot_be_written_is_found_out_before_any_work(tmp_path, monkeypatch):
    def refused(*_args, **_kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(ValueError, match="Read-only file system"):
        write(tmp_path / "results", fail=fail_early)
    assert names(tmp_path) == []


def test_too_little_space_is_said(tmp_path, monkeypatch):
    check_space(tmp_path, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 95, 5))
    with pytest.raises(ValueError, match="Make room"):
        check_space(tmp_path, 10)
