"""Write constants.md from constants.toml and the values in the package: ``python docs/decisions/constants.py``."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
FAMILIES = ("modules", "network", "sergio", "renge", "norman")
HEAD = """# Constants

Numbers of the package that change an answer, one row each.
The page is made by `docs/decisions/constants.py`, and a test fails on a number that has no row.
*Never seen* are the families of screens that nobody looked at when the value was chosen.
What these screens say of it is a judgement.
`modules` and `network` are simulated by the package, `sergio` by another program, `renge` and `norman` are real.
Options with a default are documented where they are passed: `DiffusionRecipe`, `GenerationOptions`, `Recipe`.

| constant | value | because | evidence | chosen on | never seen |
| --- | --- | --- | --- | --- | --- |
"""


def value_of(name: str) -> str:
    """As Python writes it, arrays by their ends."""
    module, _, constant = name.rpartition(".")
    value = getattr(importlib.import_module(f"dbdiffusion.{module}"), constant)
    if isinstance(value, dict):
        return ", ".join(f"{key}: {one}" for key, one in value.items())
    if isinstance(value, tuple):
        return ", ".join(f"{one:g}" for one in value)
    return f"{value:g}"


def page() -> str:
    """All of it."""
    rows = tomllib.loads((HERE / "constants.toml").read_text())["answers"]
    lines = []
    for name in sorted(rows):
        row = rows[name]
        unseen = [family for family in FAMILIES if family not in row["chosen_on"]] if row["chosen_on"] else []
        chosen, never = ", ".join(row["chosen_on"]) or "no screen", ", ".join(unseen) or "all" * (not row["chosen_on"])
        lines.append(f"| `{name}` | {value_of(name)} | {row['because']} | {row['evidence']} | {chosen} | {never} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    (HERE / "constants.md").write_text(page())
