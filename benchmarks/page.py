"""Write docs/benchmarks.md, its tables and plots from benchmarks/results, so that no figure on the page was typed.

python benchmarks/page.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ablations
import against_baselines
import carried_error
import confidence
import discoveries
import evidence
import figures
import interactions
import left_out_coverage
import network_leak
import never_worse
import null_calibration
import pandas as pd
import power
import projections
import signs
import suggest
import what_can_be_known
from _results import RESULTS, get
from _scores import summarise as summarise_coverage

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

PAGE = RESULTS.parent.parent / "docs" / "benchmarks.md"
TABLES = PAGE.parent / "benchmark_tables"
COVERAGE = {
    "seeds": "seeds",
    "targets": "targets",
    "coverage_0.5": "50 %",
    "coverage_0.8": "80 %",
    "coverage_0.95": "95 %",
    "se_95": "se of 95 %",
    "width": "width",
    "interval_score": "interval score",
    "lam": "lam",
    "mse/zero": "mse / zero",
    "mse/mean": "mse / mean",
    "mse/ridge": "mse / ridge",
}


def coverage(rows: list[dict]) -> pd.DataFrame:
    return summarise_coverage(rows)[list(COVERAGE)].rename(columns=COVERAGE)


def evidence_table(rows: list[dict]) -> pd.DataFrame:
    return evidence.summarise(rows).rename_axis("screen")


def leaks(rows: list[dict]) -> pd.DataFrame:
    table = network_leak.summarise(rows)
    table.columns = [" ".join(column) for column in table.columns]
    return table


def baselines(rows: list[dict]) -> pd.DataFrame:
    return against_baselines.summarise(rows).rename_axis(["screen", "method"]).drop(columns="seconds")


def variants(rows: list[dict]) -> pd.DataFrame:
    table = ablations.summarise(rows)
    columns = ["generated", "generated - default", "generated se", "rectified", "rectified - default", "rectified se", "own"]
    return table[["screens", *columns, "beside the default"]]


def fidelity(rows: list[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    for against, ceiling in {"replicate": "pearson_observed_in_training", "ceiling": "ceiling"}.items():
        frame[f"pearson_generated / {against}"] = frame["pearson_generated"] / frame[ceiling]
    by_screen = frame.drop(columns=["target", "alignment"]).groupby("seed").median().T
    return by_screen.rename(columns="screen {}".format).rename_axis(index="median over perturbations", columns=None)


def nothing_changed(rows: list[dict]) -> pd.DataFrame:
    return null_calibration.summarise(rows)[["below_0.05", "below_0.01", "n_discoveries", "splits_with_discoveries"]]


def costs(rows: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(rows)  # of one processor
    ms = table.set_index("what")["ms"]
    in_float32 = table["what"].where(table["what"].str.endswith("bfloat16")).str.replace("bfloat16", "float32").map(ms)
    return table.assign(**{"float32 / bfloat16": in_float32 / table["ms"]}).set_index(["processor", "what"])


def sizes(rows: list[dict]) -> pd.DataFrame:
    points = [{key: row[key] for key in ("cells", "perturbations", "genes")} for row in rows]
    table = pd.DataFrame([point | row["seconds"] | {"peak GiB": row["process_peak_gib"]} for point, row in zip(points, rows)])  # noqa: B905
    return table.set_index(["cells", "perturbations", "genes"])


def whole_genome(rows: list[dict]) -> pd.DataFrame:
    return pd.DataFrame(rows).set_index(["genes", "targets", "processes"])


def along_directions(rows: list[dict]) -> pd.DataFrame:
    table = projections.summarise(rows)
    found = [c for c in table if c.startswith(("hits c=", "false c=", "found c=", "se false c="))]
    table = table[["n", "K", "coverage plus", "se coverage plus", "width", "error", *found, "head 0.2 said", "head 0.2 came"]]
    return table.rename(columns={"coverage plus": "holds", "se coverage plus": "se holds"})


SECTIONS: list[tuple[str, str, Callable[[list[dict]], pd.DataFrame]]] = [
    ("never_worse", "Is the default ever worse than mean and zero?", never_worse.summarise),
    ("evidence", "Does left-out evidence keep what it promises?", evidence_table),
    ("network_leak", "Do the networks keep something of the references?", leaks),
    ("coverage", "Do intervals of held-out perturbations hold?", coverage),
    ("left_out_coverage", "The same over whole simulated screens, without a network", left_out_coverage.summarise),
    ("discoveries", "Of the genes that are listed, how many are wrong?", discoveries.summarise),
    ("signs", "Is a sign wrong as often as lfsr says?", signs.summarise),
    ("confidence", "Which targets can be trusted?", confidence.summarise),
    ("contexts", "Inside contexts", coverage),
    ("projections", "Do intervals along a direction hold, and are the hits right?", along_directions),
    ("suggest", "Are suggested perturbations better to measure next?", suggest.summarise),
    ("interactions", "Are pairs called that are sums of their parts?", interactions.summarise),
    ("against_baselines", "Is a prediction ever worse than a simple one?", baselines),
    ("what_can_be_known", "How much of a simulated effect can be known?", what_can_be_known.summarise),
    ("carried_error", "Which predictions carry the control's error?", carried_error.summarise),
    ("ablations", "Are the defaults the best choices?", variants),
    ("power", "What do few-cell perturbations gain from their own predictions?", power.summarise),
    ("null_calibration", "What is called where nothing changed?", nothing_changed),
    ("generation_fidelity", "Do generated cells look like cells?", fidelity),
    ("overhead", "What does the package cost beside the bare computation?", costs),
    ("scaling", "Seconds and memory by size", sizes),
    ("genome_scale", "How long does a whole genome take?", whole_genome),
]


# runs of versions before it did not treat references like the target; what they say of measured perturbations, cells and costs
# still holds
LATEST = "0.2."

FIGURES: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "coverage": figures.coverage,
    "against_baselines": figures.against_baselines,
    "ablations": figures.ablations,
}


def markdown(table: pd.DataFrame) -> str:
    table = table.reset_index()
    rows = [[str(name) for name in table.columns], ["---"] * table.shape[1]]
    rows += [[number(value) for value in row] for row in table.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def number(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if pd.isna(value) else f"{value:.0f}" if value == int(value) and abs(value) > 1 else f"{value:.3f}"


def headline() -> str:
    """One row a screen: the default's error, and whether its intervals hold."""
    table = pd.concat([never_worse.summarise(get(file)["rows"]) for file in sorted(RESULTS.glob("never_worse*.json"))])
    columns = {"targets": "held out", "mse / best": "mse / best", "se": "se", "95 %": "95 % hold", "se 95": "se of 95 %"}
    return markdown(table[list(columns)].rename(columns=columns))


def picture(script: str, table: pd.DataFrame) -> list[str]:
    """The plot of a script's table, drawn anew where there is a way to, as lines of the page."""
    file = RESULTS / f"{script}.png"
    if script in FIGURES:
        FIGURES[script](table).savefig(file, dpi=110)
    return [f"![{script}](../benchmarks/results/{file.name})"] if file.exists() else []


def section(script: str, question: str, table_of: Callable[[list[dict]], pd.DataFrame]) -> str:
    stored = {file.stem.removeprefix(script).strip("_"): get(file) for file in sorted(RESULTS.glob(f"{script}*.json"))}
    if not stored:
        return ""
    tables = pd.concat({run: table_of(one["rows"]) for run, one in stored.items()}, names=["run"])
    doc = (RESULTS.parent / f"{script}.py").read_text().split('"""')[1]
    explained = "\n\n".join(part for part in doc.strip().split("\n\n")[1:] if not part.startswith("    "))
    versions = ", ".join(
        sorted({f"scvi-tools {one['versions']['scvi-tools']}, torch {one['versions']['torch']}" for one in stored.values()})
    )
    tables.to_csv(TABLES / f"{script}.csv", float_format="%.4g")
    parts = [
        f"## {question}",
        f"`benchmarks/{script}.py` ({versions}), [all rows](benchmark_tables/{script}.csv). {explained}",
        *_older(script, stored),
        *picture(script, tables.droplevel("run")),
    ]
    return "\n\n".join(parts) + "\n"


def _older(script: str, stored: dict[str, dict]) -> list[str]:
    """Which runs were measured with a version before the latest."""
    older = [run for run, one in stored.items() if not one["versions"]["dbdiffusion"].startswith(LATEST)]
    if not older:
        return []
    which = "Measured" if len(older) == len(stored) else f"{', '.join(f'`{run or script}`' for run in older)}: measured"
    return [f"{which} with a version before {LATEST}0."]


HEAD = """# Benchmarks

`python benchmarks/page.py` writes this page from `benchmarks/results/`. The commands are at the head of each script.
Each section says what was asked and what the columns of its table mean. The tables are files of comma-separated values.

Perturbations were held out of everything, and networks trained with the defaults. Below, `mse / best` is the squared error
divided by that of the better of two simple answers: the mean of the measured perturbations, and no effect. 1 means no gain,
less is better. `95 % hold` is the share of true effects inside 95 % intervals.

{headline}

The file of SERGIO that the rows `sergio` speak of has a fault: in the package that made it, knock-outs of one network
accumulate, so most of an effect is shared with the neighbours in the file. It is a hard screen all the same. `sergio fresh` is
made anew, each knock-out from a network of its own (`benchmarks/make_sergio.py`).
"""


def main() -> None:
    TABLES.mkdir(exist_ok=True)
    PAGE.write_text("\n".join([HEAD.format(headline=headline()), *filter(None, (section(*one) for one in SECTIONS))]))
    print("written:", PAGE.name)


if __name__ == "__main__":
    main()
