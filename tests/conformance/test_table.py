"""The table of the docs and the tests say the same."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (TESTS.parent / "docs" / "conformance.md").read_text().splitlines()
    if re.match(r"\| (\d+|\+|[a-z]) \|", line)
]


def test_every_row_has_a_test_or_a_reason():
    assert [row[0] for row in ROWS if row[0].isdigit()] == [str(i) for i in range(1, 53)]
    for number, _, holds, tests in ROWS:
        assert tests or ":" in holds, number


def test_every_test_of_the_table_is_there():
    named = {name for row in ROWS for name in re.findall(r"`(test_\w+)`", row[3])}
    there = {
        node.name
        for file in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    assert named - there == set()


def test_every_numbered_test_is_in_the_table():
    named = {name for row in ROWS for name in re.findall(r"`(test_\w+)`", row[3])}
    numbered = {
        node.name
        for file in Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and re.match(r"test_row_(\d\d|[a-z])_", node.name)
    }
    assert numbered - named == set()
