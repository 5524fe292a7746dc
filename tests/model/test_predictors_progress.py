"""Laws of progress bars: the steps come as they are, late, one bar at a time, and in silence where that is asked for."""

import pytest
from scvi import settings

from dbdiffusion.model import _predictors
from dbdiffusion.model._predictors import progress


@pytest.fixture(autouse=True)
def _heard():
    before = settings.verbosity
    settings.verbosity = 20
    yield
    settings.verbosity = before


def test_what_is_quick_shows_nothing(capsys):
    assert list(progress("Quick")(range(5))) == [0, 1, 2, 3, 4]
    assert capsys.readouterr() == ("", "")


def test_what_takes_long_has_one_bar_for_all_that_is_inside(capsys, monkeypatch):
    monkeypatch.setattr(_predictors, "SECONDS", -1)
    seen = [(outer, inner) for outer in progress("Outer")(range(3)) for inner in progress("Inner")(range(2))]
    assert seen == [(i, j) for i in range(3) for j in range(2)]
    said = "".join(capsys.readouterr())
    assert "Outer" in said
    assert "Inner" not in said
    assert list(progress("Later")([1, 2])) == [1, 2]
    assert "Later" in "".join(capsys.readouterr())


def test_quiet_settings_and_single_steps_show_nothing(capsys, monkeypatch):
    monkeypatch.setattr(_predictors, "SECONDS", -1)
    assert list(progress("One")([1])) == [1]
    settings.verbosity = 30
    assert list(progress("Two")([1, 2])) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_loop_that_ends_early_leaves_room_for_the_next_bar(capsys, monkeypatch):
    monkeypatch.setattr(_predictors, "SECONDS", -1)
    for _ in progress("Broken off")(range(3)):
        break
    list(progress("Next")(range(2)))
    assert "Next" in "".join(capsys.readouterr())
