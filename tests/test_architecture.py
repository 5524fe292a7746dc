"""The arrows of the house: who may import whom."""

import ast
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


def test_doors_hold_no_logic():
    for door in SOURCE.glob("*/__init__.py"):
        for node in ast.parse(door.read_text()).body:
            assert isinstance(node, ast.ImportFrom | ast.Assign | ast.Expr), door


def test_tests_mirror_the_source():
    tests = Path(__file__).parent
    for file in SOURCE.glob("*/_*.py"):
        if file.name == "__init__.py":
            continue
        expected = tests / file.parent.name / f"test_{file.stem.strip('_')}.py"
        assert expected.exists(), f"no test file {expected.relative_to(tests)}"
