import pandas as pd

from dbdiffusion.job._calibration import Checked
from dbdiffusion.job._report import write_report


def test_report_says_how_good_and_names_the_plots(tmp_path):
    target = {"target": "A", "mse": 1.0, "mse_mean_baseline": 2.0, "coverage_95": 0.9}
    summary = {
        "seed": 0, "versions": {"torch": "2"}, "seconds": {"total": 1.0}, "targets": [target],
        "screen": {"n_cells": 10, "n_genes": 3, "n_perturbations": 2, "source": "simulated"},
        "embedding_scores": {"mean": {"mse": 0.5}},
    }  # fmt: skip
    checked = Checked(None, None, ("The screen is too small.",))
    write_report(tmp_path, summary, pd.DataFrame({"mse": [1.0]}, index=["A"]), [("volcano.png", "A plot.")], checked)
    text = (tmp_path / "report.md").read_text()
    assert "0.50 times that of the mean" in text
    assert "90.0% of the" in text
    assert "![A plot.](volcano.png)" in text
    assert "| A | 1 |" in text
    assert "Not checked: The screen is too small." in text
