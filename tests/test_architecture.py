"""The arrows of the house: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dbdiffusion

SOURCE = Path(dbdiffusion.__file__).parent
ROOMS = {
    "diffusion": set(),
    "metrics": set(),
    "plotting": set(),
    "screen": set(),
    "simulate": set(),
    "embedding": {"screen"},
    "inference": {"metrics"},
    "data": {"screen", "simulate", "_keys", "_compat", "_words"},
    "predict": {"diffusion", "embedding", "inference", "metrics", "screen", "_keys", "_words"},
    "storage": set(),
    "model": {"diffusion", "embedding", "screen", "predict", "data", "storage", "_keys", "_compat", "_words"},
    "job": {
        "diffusion",
        "embedding",
        "inference",
        "metrics",
        "screen",
        "data",
        "model",
        "plotting",
        "predict",
        "simulate",
        "storage",
        "_arguments",
        "_keys",
        "_words",
    },
}
FORBIDDEN = {
    "diffusion": {"scvi", "anndata", "pandas", "scanpy", "sklearn"},
    "embedding": {"torch", "scvi", "anndata"},
    "inference": {"torch", "scvi", "anndata", "sklearn"},
    "metrics": {"torch", "scvi", "anndata"},
    "predict": {"scvi", "anndata", "lightning"},
    "plotting": {"torch", "scvi", "anndata", "scanpy", "scipy"},
    "screen": {"torch", "scvi", "anndata"},
    "simulate": {"torch", "scvi", "sklearn"},
}
MOST_OF_THE_HOUSE = 0.25  # in the largest room
STATISTICAL = ("screen", "embedding", "inference", "predict", "metrics")
ALLOWED = {"_hierarchical.py": {"torch"}}  # Pyro, in one file


def imports(file: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.append(node.module)
    return names


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_imports_follow_the_arrows(room):
    for file in (SOURCE / room).glob("*.py"):
        for name in imports(file):
            top, *rest = name.split(".")
            if top == "dbdiffusion" and rest:
                assert rest[0] == room or rest[0] in ROOMS[room], f"{file.name} imports {name}"
            assert top not in FORBIDDEN.get(room, set()) - ALLOWED.get(file.name, set()), f"{file.name} imports {name}"


def test_data_only_hands_the_simulator_on():
    """Its names are public in `data` since they once lived there."""
    for file in (SOURCE / "data").glob("_[!_]*.py"):
        assert not any(name.startswith("dbdiffusion.simulate") for name in imports(file)), file


def test_every_room_is_on_the_plan():
    assert {p.name for p in SOURCE.iterdir() if p.is_dir() and p.name != "__pycache__"} == set(ROOMS)


def test_other_rooms_are_entered_by_their_door():
    for file in SOURCE.rglob("*.py"):
        room = file.relative_to(SOURCE).parts[0]
        for name in imports(file):
            parts = name.split(".")
            if parts[0] == "dbdiffusion" and len(parts) > 2:
                assert parts[1] == room, f"{file} goes into {name}"


def test_files_are_named_by_their_subject():
    for file in SOURCE.rglob("*.py"):
        assert file.stem.strip("_") not in {"utils", "base", "types", "common", "helpers", "misc"}, file


LAZY = {"inference"}  # doors with one `__getattr__`, for what loads torch


def test_doors_hold_no_logic():
    for door in SOURCE.glob("*/__init__.py"):
        for node in ast.parse(door.read_text()).body:
            is_lazy = door.parent.name in LAZY and (
                isinstance(node, ast.If) or (isinstance(node, ast.FunctionDef) and node.name == "__getattr__")
            )
            assert is_lazy or isinstance(node, ast.ImportFrom | ast.Assign | ast.Expr), door


@pytest.mark.parametrize("room", ["screen", "embedding", "inference", "metrics"])
def test_rooms_of_numpy_load_neither_torch_nor_scvi(room):
    code = f"import sys, dbdiffusion.{room}; print(sorted({{'torch', 'scvi', 'pyro', 'anndata'}} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_help_and_the_package_itself_load_neither_torch_nor_scvi():
    code = (
        "import sys, runpy, dbdiffusion; sys.argv = ['dbdiffusion', '--help']\n"
        "try:\n    runpy.run_module('dbdiffusion', run_name='__main__')\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(sorted({'torch', 'scvi', 'pyro', 'pandas'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip().endswith("[]")
    assert "--h5ad" in run.stdout


def test_no_room_outgrows_the_others():
    lines = {room: sum(len(file.read_text().splitlines()) for file in (SOURCE / room).glob("*.py")) for room in ROOMS}
    room = max(lines, key=lines.get)
    assert lines[room] <= MOST_OF_THE_HOUSE * sum(lines.values()), f"{room} has {lines[room]} of {sum(lines.values())} lines"


def test_no_two_files_of_the_statistical_rooms_share_a_name():
    names = [file.name for room in STATISTICAL for file in (SOURCE / room).glob("_[!_]*.py")]
    assert sorted(names) == sorted(set(names))


def test_benchmarks_import_nothing_private():
    for file in (SOURCE.parents[1] / "benchmarks").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "dbdiffusion":
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
                is_private = any(name.startswith("_") for name in names)
                assert not is_private, f"{file.name} imports {names}"


def test_benchmarks_change_the_package_by_its_options():
    for file in (SOURCE.parents[1] / "benchmarks").glob("*.py"):
        assert "mock" not in file.read_text(), file.name


def test_tests_mirror_the_source():
    """A file `_x` has a test file `test_x` or several `test_x_*`, and no test file speaks of what is not there."""
    tests = Path(__file__).parent
    for room in ROOMS:
        subjects = {file.stem.strip("_") for file in (SOURCE / room).glob("_[!_]*.py")}
        tested = {file.stem.removeprefix("test_") for file in (tests / room).glob("test_*.py")}
        for subject in subjects:
            assert any(one == subject or one.startswith(f"{subject}_") for one in tested), (
                f"no test file of {room}/_{subject}.py"
            )
        for one in tested:
            assert any(one == subject or one.startswith(f"{subject}_") for subject in subjects), f"{room}/test_{one}.py"


MOST_FILES_ENTERED = 30


def test_a_default_prediction_enters_few_files_and_the_page_lists_them():
    command = [sys.executable, "-W", "ignore", Path(__file__).parent / "entered.py"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    entered = [line for line in run.stdout.splitlines() if line.endswith(".py")]
    page = (SOURCE.parents[1] / "docs" / "architecture.md").read_text()
    listed = page.split("## Files that a default prediction enters")[1].split("```text\n")[1].split("```")[0].split()
    assert entered == listed
    assert len(entered) <= MOST_FILES_ENTERED
