import pytest

from dbdiffusion.job import parse_arguments


def test_defaults_are_the_simulated_screen():
    arguments = parse_arguments([])
    assert arguments.h5ad is None
    assert arguments.perturbation_key == "perturbation"
    assert arguments.control == "control"
    assert not arguments.overwrite


def test_unknown_option_exits_with_two(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--frobnicate"])
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err
