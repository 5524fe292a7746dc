"""The page: one file, nothing loaded from elsewhere, names shown as text."""

import base64
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from dbdiffusion.job import _html
from dbdiffusion.job._answers import gene_lists
from dbdiffusion.job._calibration import Checked
from dbdiffusion.job._evaluate import COLUMNS as GAP
from dbdiffusion.job._html import heat_map, searchable, write_html

EVIL = "<script>alert(1)</script>&\"'"
BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==")


class Page(HTMLParser):
    """Tags, and the text outside of scripts and styles."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.inside, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value) for name, value in attrs if value]
        if tag in ("script", "style"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.text.append(data)


def effects_of(targets, variables):
    rng = np.random.default_rng(0)
    blocks = []
    for target in targets:
        effect = rng.standard_normal(len(variables))
        columns = {"effect": effect, "se": 0.2, "df": 7.0, "ci_low": effect - 1, "ci_high": effect + 1, "lfsr": 0.1}
        blocks.append(pd.DataFrame({"target": target, "variable": variables, **columns, "adj_p_value": 0.05}))
    return pd.concat(blocks, ignore_index=True)


@pytest.fixture
def written(tmp_path):
    """The page of two targets, one with a malicious name."""
    effects = effects_of([EVIL, "$x$"], [EVIL, *(f"G{i}" for i in range(6))])
    trust = pd.DataFrame({"target": [EVIL, "$x$"], "correlation": [0.7, np.nan], "correlation_low": [0.2, np.nan],
                          "correlation_high": [0.9, np.nan], "nearest": [f"{EVIL}, G1", ""], "strategy": ["knn", "mean"],
                          "told_apart": [True, False]})  # fmt: skip
    (tmp_path / "plot.png").write_bytes(PIXEL)
    screen = {"n_cells": 10, "n_genes": 7, "n_perturbations": 2, "contexts": [], "source": EVIL}
    targets = [{"target": EVIL, "mse": 1.0, "mse_mean_baseline": 2.0, "n_cells": 33, "pearson_effect": 0.6,
                "split_half_ceiling": 0.8, "coverage_95": 0.9, "told_apart": True},
               {"target": "$x$", "mse": None, "mse_mean_baseline": None, "told_apart": False}]  # fmt: skip
    summary = {"screen": screen, "seed": 0, "versions": {"torch": "2"}, "seconds": {"total": 1.5}, "targets": targets,
               "arguments": {"targets": [EVIL]}, "input": {"file": EVIL, "sha256": "0f"}}  # fmt: skip
    gap = pd.DataFrame([[5, 0.9, 0.02, 1.3, 0.05, True]], index=["single"], columns=list(GAP))
    scores = pd.DataFrame({"mse / mean": [0.5, np.nan]}, index=[EVIL, "$x$"])
    write_html(tmp_path, summary, effects, trust, [("plot.png", EVIL)], {None: Checked(None, None, (EVIL,))}, {None: gap},
               gene_lists(effects, {}), scores)  # fmt: skip
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_names_are_text(written):
    page = Page()
    page.feed(written)
    assert page.tags.count("script") == 2  # the data, and what searches it
    assert EVIL in "".join(page.text)
    assert "$x$" in "".join(page.text)
    assert "<script>alert" not in written


def test_nothing_is_loaded_from_elsewhere(written):
    page = Page()
    page.feed(written)
    assert not {"link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert all(value.startswith(("data:", "#")) for name, value in page.attributes if name in ("src", "href", "data", "srcset"))
    assert not re.search(r"https?://|@import|url\(", written)
    assert "default-src 'none'" in written


def test_the_data_of_the_search_are_whole(written):
    text = re.search(r'<script type="application/json" id="rows">(.*?)</script>', written, re.DOTALL)[1]
    data = json.loads(text)
    assert len(data["rows"]) == 14
    assert data["rows"][0][:2] == [EVIL, EVIL]
    assert data["n_left_out"] == 0


def test_cards_tell_what_is_expected_and_what_is_not_told_apart(written):
    page = Page()
    page.feed(written)
    text = " ".join(page.text)
    assert "0.70 (90 % interval 0.20 to 0.90)" in text
    assert text.count("the answer is that of any target") == 1
    assert "genes are listed at 10% wrong signs" in text


def test_the_page_says_how_hidden_ones_came_out(written):
    page = Page()
    page.feed(written)
    text = " ".join(page.text)
    assert "Their squared error is 0.50 times that of the mean" in text
    assert "promised 0.90 (se 0.02) times the mean's squared error" in text
    assert "0.60 (noise allows 0.80)" in text
    assert text.count("hidden cells") == 1  # the other target has none
    assert "<p><strong>1 of 2 targets ($x$) are not told apart" in written
    assert f"Not checked: {EVIL}" in text


def test_too_many_rows_leave_the_smallest_effects_of_every_target_out(monkeypatch):
    monkeypatch.setattr(_html, "MAX_ROWS", 8)
    effects = effects_of(["A", "B"], [f"G{i}" for i in range(11)])
    data = searchable(effects.assign(title=effects["target"]))
    assert data["n_left_out"] == 14
    for target in "AB":
        kept = [abs(row[2]) for row in data["rows"] if row[0] == target]
        strength = effects.loc[effects["target"] == target, "effect"].abs().nlargest(4)
        np.testing.assert_allclose(sorted(kept), sorted(strength), rtol=1e-2)


def test_the_heat_map_has_a_cell_for_every_target_and_gene():
    effects = effects_of(["A", "B", "C"], [f"G{i:02d}" for i in range(40)])
    heat = heat_map(effects.assign(title=effects["target"]))
    assert len(heat["genes"]) == 30
    assert [title for title, _ in heat["rows"]] == ["A", "B", "C"]
    largest = max((cell for _, cells in heat["rows"] for cell in cells), key=lambda cell: abs(float(cell[0])))
    assert largest[1] in ("#f59a8c", "#8cb8f5")
    assert all(len(cells) == 30 for _, cells in heat["rows"])


def in_a_browser(page, folder, script=""):
    """What the page is after a script, and what the console said; ``--dump-dom`` ends without a driver."""
    file = folder / "driven.html"
    file.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=2000",
               "--window-size=400,900", f"--user-data-dir={folder / 'profile'}"]  # fmt: skip
    command = [BROWSER, *options, "--dump-dom", file.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert "CONSOLE" not in run.stderr
    table = re.search(r'<table id="all">(.*?)</table>', run.stdout, re.DOTALL)[1]
    return run.stdout, [re.findall("<td>(.*?)</td>", row) for row in re.findall("<tr>(<td>.*?)</tr>", table)]


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_fills_the_table_without_errors(written, tmp_path):
    page, rows = in_a_browser(written, tmp_path, "document.title = document.documentElement.scrollWidth <= innerWidth")
    assert "14 rows." in page
    assert len(rows) == 14
    assert sum(row[0].startswith("&lt;script&gt;alert(1)&lt;/script&gt;&amp;") for row in rows) == 7
    assert [abs(float(row[2])) for row in rows] == sorted((abs(float(row[2])) for row in rows), reverse=True)
    assert "<title>true</title>" in page  # nothing is wider than a telephone


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_table_is_filtered_and_sorted_from_the_keyboard(written, tmp_path):
    script = """
      const type = (id, text) => {
        const field = document.getElementById(id);
        field.value = text;
        field.dispatchEvent(new Event("input", { bubbles: true }));
      };
      type("gene", "g"); type("target", "$X$");
      const button = document.querySelectorAll("#all th button")[1];
      button.focus(); button.click();
      document.title = document.activeElement.textContent + document.querySelectorAll("#genes option").length;
    """
    page, rows = in_a_browser(written, tmp_path, script)
    assert "6 rows." in page
    assert [row[:2] for row in rows] == [["$x$", f"G{i}"] for i in range(6)]
    assert "<title>gene7</title>" in page  # a heading takes the focus, and the picker knows all genes
    assert page.count('aria-sort="ascending"') == 1
