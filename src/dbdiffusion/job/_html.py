"""The report as one page for a browser: nothing is loaded from elsewhere, and every text from a file is shown as text."""

from __future__ import annotations

import base64
import json
import re
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from dbdiffusion.job._calibration import calibration_lines
from dbdiffusion.job._evaluate import gap_lines, title_of
from dbdiffusion.job._report import (
    HOW_TO_READ,
    OF_CONTEXTS,
    OF_OWN_GENES,
    cells_of,
    how_good,
    template,
    told_apart,
    verdicts,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from dbdiffusion.job._answers import GeneList
    from dbdiffusion.job._calibration import Checked

MAX_ROWS = 40_000  # of the table that can be searched: about 2.5 MB
MAX_HEAT_GENES = 30
HTML = "report.html"


def write_html(
    folder: Path,
    summary: dict[str, Any],
    effects: pd.DataFrame,
    trust: pd.DataFrame,
    plots: Sequence[tuple[str, str]],
    checked: Mapping[str | None, Checked],
    gaps: Mapping[str | None, pd.DataFrame],
    genes: Sequence[GeneList],
    scores: pd.DataFrame,
) -> None:
    """Write ``report.html``.

    Parameters
    ----------
    folder
        Of the report; the plots lie in it.
    summary
        Of the job.
    effects
        Of all targets.
    trust
        Of :meth:`DBDiffusion.target_confidence`.
    plots
        File names and captions.
    checked
        Calibration by context.
    gaps
        What hidden perturbations showed beside what left-out ones promised, by context.
    genes
        Lists of all targets, in the order of ``effects``.
    scores
        Of all targets, as people read them.
    """
    titled = effects.assign(title=_titles(effects))
    page = template("report.html.j2").render(
        summary=summary,
        verdicts=[*told_apart(summary["targets"]), *verdicts(checked)],
        good=[*how_good(summary["targets"], _table), *gap_lines(gaps)],
        scores=_table(scores),
        how_to_read=[HOW_TO_READ, *([OF_CONTEXTS] if summary["screen"]["contexts"] else [])],
        cards=_cards(genes, trust, summary["targets"]),
        of_own_genes=OF_OWN_GENES,
        rows=_safe_json(searchable(titled)),
        heat=heat_map(titled),
        plots=[(caption, _data_url(folder / file)) for file, caption in plots],
        trusted=calibration_lines(checked, _table),
        number=_number,
        prose=_prose,
    )
    (folder / HTML).write_text(page, encoding="utf-8")


def searchable(effects: pd.DataFrame) -> dict[str, Any]:
    """Columns of the table that the page searches: all rows, or the largest effects of every target where they are too many.

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {
    ...         "title": ["A"],
    ...         "variable": ["<b>"],
    ...         "effect": [0.5],
    ...         "ci_low": [0.1],
    ...         "ci_high": [0.9],
    ...         "lfsr": [0.01],
    ...         "adj_p_value": [np.nan],
    ...     }
    ... )
    >>> searchable(table)["rows"]
    [['A', '<b>', 0.5, 0.1, 0.9, 0.01, None]]
    """
    n_targets = max(1, effects["title"].nunique())
    each = max(1, MAX_ROWS // n_targets)
    strength = effects["effect"].abs().groupby(effects["title"]).rank(ascending=False, method="first")
    kept = effects[(strength <= each).to_numpy()]
    columns = ["title", "variable", "effect", "ci_low", "ci_high", "lfsr", "adj_p_value"]
    rows = [[_plain(value) for value in row] for row in kept[columns].itertuples(index=False, name=None)]
    return {"rows": rows, "n_left_out": int(len(effects) - len(kept))}


def heat_map(effects: pd.DataFrame) -> dict[str, Any]:
    """Effects of the genes with the largest mean square, targets as rows: text and a colour for every cell."""
    wide = effects.pivot_table(index="title", columns="variable", values="effect", sort=False, observed=True)
    chosen = (wide**2).mean().sort_values(ascending=False, kind="stable").index[:MAX_HEAT_GENES]
    wide = wide[chosen]
    most = float(np.nanmax(np.abs(wide.to_numpy()), initial=1e-12))
    rows = [(title, [(_short(value), _colour(value / most)) for value in values]) for title, values in
            zip(map(str, wide.index), wide.to_numpy(), strict=True)]  # fmt: skip
    return {"genes": list(map(str, chosen)), "rows": rows}


def _cards(genes: Sequence[GeneList], trust: pd.DataFrame, targets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    of_title = dict(zip(_titles(trust), trust.to_dict(orient="records"), strict=True))
    seen = {title_of(one["target"], one.get("context")): one for one in targets}
    return [
        {
            "title": one.title,
            "sentence": one.sentence,
            "columns": [column.replace("_", " ") for column in one.genes.columns],
            "genes": one.genes.to_numpy().tolist(),
            "own": one.own.to_numpy().tolist(),
            "facts": [*_facts(of_title.get(one.title, {})), *_hidden(seen.get(one.title, {}))],
        }
        for one in genes
    ]


def _facts(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What is known of a target, a name and a value each."""
    facts = []
    for column, words in (
        ("correlation", "expected correlation with the truth"),
        ("right_20", "expected share of right signs, first 20 genes"),
        ("right_50", "expected share of right signs, first 50 genes"),
    ):
        if np.isfinite(row.get(column, np.nan)):
            low, high = row[f"{column}_low"], row[f"{column}_high"]
            facts.append((words, f"{row[column]:.2f} (90 % interval {low:.2f} to {high:.2f})"))
    facts += [(words, str(row[column])) for column, words in (("nearest", "nearest measured"), ("strategy", "placed by"))
              if row.get(column)]  # fmt: skip
    if row.get("told_apart") is False:
        facts.append(("told apart", "no: the answer is that of any target"))
    return facts


def _hidden(score: dict[str, Any]) -> list[tuple[str, str]]:
    """How the prediction of a hidden perturbation came out, a name and a value each."""
    if score.get("mse") is None:
        return []
    facts = [("hidden cells", str(score["n_cells"]))]
    if score.get("pearson_effect") is not None:
        ceiling = score.get("split_half_ceiling")
        most = "" if ceiling is None else f" (noise allows {ceiling:.2f})"
        facts.append(("correlation with the observed effects", f"{score['pearson_effect']:.2f}{most}"))
    return [*facts, ("observed effects in their 95 % intervals", f"{score['coverage_95']:.0%}")]


class _Html(str):
    """Text that a template takes as it is."""

    def __html__(self) -> str:
        return str(self)


def _table(frame: pd.DataFrame) -> str:
    """For a page, in a frame of its own that scrolls."""
    head, *rows = cells_of(frame)
    heading = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    table = f"<table><thead><tr>{heading}</tr></thead>\n<tbody>{body}</tbody></table>"
    return _Html(f'<div class="wide" tabindex="0">{table}</div>')


def _prose(text: str) -> str:
    """A paragraph with the marks of a Markdown report; a table as it is.

    Examples
    --------
    >>> print(_prose("**No** `lam` in <b>"))
    <p><strong>No</strong> <code>lam</code> in &lt;b&gt;</p>
    """
    if isinstance(text, _Html):
        return text
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return _Html("<p>" + re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", marked) + "</p>")


def _titles(table: pd.DataFrame) -> list[str]:
    contexts = [None] * len(table) if "context" not in table else table["context"].astype(str)
    return [title_of(*one) for one in zip(table["target"].astype(str), contexts, strict=True)]


def _data_url(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode("ascii")


def _safe_json(value: Any) -> str:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(f"{value:.3g}") if np.isfinite(value) else None
    return str(value)


def _number(value: Any) -> str:
    """As people read it.

    Examples
    --------
    >>> _number(0.12345), _number(float("nan")), _number("A")
    ('0.123', '', 'A')
    """
    if isinstance(value, float | np.floating):
        return f"{value:.3g}" if np.isfinite(value) else ""
    return str(value)


def _short(value: float) -> str:
    """For a cell of the heat map.

    Examples
    --------
    >>> _short(0.129), _short(float("nan"))
    ('0.13', '')
    """
    return f"{value:.2f}" if np.isfinite(value) else ""


def _colour(share: float) -> str:
    """Blue below zero, red above, the paler the smaller; black text can be read on all of them.

    Examples
    --------
    >>> _colour(0.0), _colour(1.0)
    ('#ffffff', '#f59a8c')
    """
    if not np.isfinite(share):
        return "#eeeeee"
    full = (245, 154, 140) if share > 0 else (140, 184, 245)
    mixed = [round(255 + (channel - 255) * min(abs(share), 1.0)) for channel in full]
    return "#" + "".join(f"{channel:02x}" for channel in mixed)
