from pathlib import Path

import pytest

import dbdiffusion
from dbdiffusion.job import parse_arguments
from dbdiffusion.predict import Recipe


def test_defaults_are_the_simulated_screen():
    arguments = parse_arguments([])
    assert arguments.h5ad is None
    assert arguments.perturbation_key == "perturbation"
    assert arguments.control == "control"
    assert not arguments.overwrite


def test_means_are_taken_over_as_many_cells_as_in_python():
    assert parse_arguments(["effects", "model", "effects.zarr", "--all-genes"]).n_cells == Recipe.n_cells


def test_unknown_option_exits_with_two(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--frobnicate"])
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_the_version_is_that_of_the_package_and_of_its_citation(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_arguments(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"dbdiffusion {dbdiffusion.__version__}\n"
    root = Path(__file__).parent.parent
    for file, line in (
        ("pyproject.toml", 'version = "{}"'),
        ("CITATION.cff", "version: {}"),
        ("docs/meta.yaml", "version: v{}"),
        ("CHANGELOG.md", "## [{}]"),
    ):
        assert line.format(dbdiffusion.__version__) in (root / file).read_text(), file
