"""Every number of the package that changes an answer has a row that says why."""

from __future__ import annotations

import ast
import importlib.util
import tomllib
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "dbdiffusion"
DECISIONS = Path(__file__).parents[1] / "docs" / "decisions"
ROOMS_OF_ANSWERS = ("diffusion", "screen", "embedding", "inference", "predict", "model")
FAMILIES = {"modules", "network", "sergio", "renge", "norman"}


def is_number(node: ast.expr | None) -> bool:
    """A number, a sum or power of numbers, a tuple of numbers, or a dictionary of them."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and not isinstance(node.value, bool)
    if isinstance(node, ast.UnaryOp | ast.BinOp):
        return all(is_number(part) for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr))
    if isinstance(node, ast.Tuple):
        return bool(node.elts) and all(is_number(part) for part in node.elts)
    return isinstance(node, ast.Dict) and all(is_number(part) for part in node.values)


def numbers() -> set[str]:
    found = set()
    for room in ROOMS_OF_ANSWERS:
        for file in (SOURCE / room).glob("*.py"):
            for node in ast.parse(file.read_text()).body:
                targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
                if not isinstance(node, ast.Assign | ast.AnnAssign) or not is_number(node.value):
                    continue
                for target in targets:
                    found |= {f"{room}.{file.stem}.{one.id}" for one in ast.walk(target) if isinstance(one, ast.Name)}
    return found


def table() -> dict:
    return tomllib.loads((DECISIONS / "constants.toml").read_text())


def test_every_number_is_explained_or_changes_no_answer():
    told = set(table()["answers"]) | set(table()["changes_no_answer"]["names"])
    assert sorted(numbers() - told) == []


def test_no_row_speaks_of_a_number_that_is_gone():
    assert sorted(set(table()["changes_no_answer"]["names"]) - numbers()) == []
    for name, row in table()["answers"].items():
        assert {"because", "evidence", "chosen_on"} == set(row), name
        assert set(row["chosen_on"]) <= FAMILIES, name
        assert all(row[part] for part in ("because", "evidence")), name


def test_the_page_is_that_of_the_table_and_the_package():
    spec = importlib.util.spec_from_file_location("constants_page", DECISIONS / "constants.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DECISIONS / "constants.md").read_text() == module.page(), "run `python docs/decisions/constants.py`"


def test_pages_of_decisions_that_rows_name_are_there():
    for name, row in table()["answers"].items():
        for part in row["evidence"].split("](")[1:]:
            assert (DECISIONS / part.split(")")[0]).exists(), name
