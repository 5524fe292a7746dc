"""Files of results: versions, arguments and other facts, then a table of rows, a line each, floats to five digits."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

RESULTS = Path(__file__).parent / "results"
DIGITS = 5


def write(name: str, rows: list[dict], options: argparse.Namespace, **facts: Any) -> Path:
    """Write rows with versions and the options they were run with beside them, to ``options.out`` or the folder of results."""
    facts["arguments"] = {key: value for key, value in vars(options).items() if not isinstance(value, Path)}
    versions = {package: version(package) for package in ("dbdiffusion", "scvi-tools", "torch")}
    return put(options.out or RESULTS / f"{name}.json", {"versions": versions, **facts, "rows": rows})


def put(file: Path, results: dict[str, Any]) -> Path:
    """Write results as :func:`get` reads them."""
    rows = results["rows"]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    head = json.dumps(_rounded({key: value for key, value in results.items() if key != "rows"} | {"columns": columns}))
    lines = ",\n".join(json.dumps([_rounded(row.get(column)) for column in columns], separators=(",", ":")) for row in rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'{head[:-1]}, "rows": [\n{lines}\n]}}\n')
    return file


def get(file: Path) -> dict[str, Any]:
    """Results with rows as dictionaries, without what a row has not."""
    results = json.loads(file.read_text())
    columns = results.pop("columns")
    results["rows"] = [{k: v for k, v in zip(columns, row, strict=True) if v is not None} for row in results["rows"]]
    return results


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
