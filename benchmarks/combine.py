"""Put several runs of a benchmark together: one file of results, rows in the order of the files.

python benchmarks/combine.py coverage_simulated first.json second.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _results import RESULTS, get, put


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the file in benchmarks/results, without its ending")
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--label", default="", help="added to the names of the screens")
    options = parser.parse_args()
    runs = [get(file) for file in options.runs]
    versions = {tuple(sorted(run["versions"].items())) for run in runs}
    if len(versions) > 1:
        parser.error(f"runs of different versions: {sorted(versions)}. Run them again with one.")
    rows = [row for run in runs for row in run["rows"]]
    if options.label:
        rows = [{**row, "screen": row["screen"] + options.label} for row in rows]
    results = {"versions": runs[0]["versions"], "arguments": [run["arguments"] for run in runs], "rows": rows}
    file = put(RESULTS / f"{options.name}.json", results)
    print("written:", file.name, len(rows), "rows")


if __name__ == "__main__":
    main()
