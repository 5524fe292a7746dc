import pandas as pd

from dbdiffusion.job._calibration import Checked
from dbdiffusion.job._evaluate import COLUMNS as GAP
from dbdiffusion.job._report import cells_to_map, draw_plots, write_report

TARGET = {"target": "A", "mse": 1.0, "mse_mean_baseline": 2.0, "coverage_95": 0.9}
SCORES = {"mean": {"mse": 0.5}}


def summary_of(targets, contexts, embedding_scores):
    screen = {"n_cells": 10, "n_genes": 3, "n_perturbations": 2, "contexts": contexts, "source": "simulated"}
    run = {"seed": 0, "versions": {"torch": "2"}, "seconds": {"total": 1.0}, "arguments": {"seed": 0}, "input": None}
    predicted = [target["target"] for target in targets]
    return {**run, "targets": targets, "screen": screen, "embedding_scores": embedding_scores, "predicted": predicted}


def test_report_says_how_good_and_names_the_plots(tmp_path):
    summary = summary_of([TARGET], [], SCORES)
    checked = Checked(None, None, ("The screen is too small.",))
    gap = pd.DataFrame([[5, 0.9, 0.02, 1.3, 0.05, True]], index=["single"], columns=list(GAP))
    plots = [("volcano.png", "A plot.")]
    write_report(tmp_path, summary, pd.DataFrame({"mse": [1.0]}, index=["A"]), plots, {None: checked}, {None: gap})
    text = (tmp_path / "report.md").read_text()
    assert "promised 0.90 (se 0.02) times the mean's squared error" in text
    assert "0.50 times that of the mean" in text
    assert "90.0% of the" in text
    assert "![A plot.](volcano.png)" in text
    assert "| A | 1 |" in text
    assert "Not checked: The screen is too small." in text


def test_the_first_sentence_says_that_targets_are_not_told_apart(tmp_path):
    first, second = ({**TARGET, "target": name, "told_apart": name == "B"} for name in "AB")
    for targets, start in (
        ([first], "**No target is told apart"),
        ([first, second], "**1 of 2 targets (A) are not told apart"),
    ):
        summary = summary_of(targets, [], SCORES)
        write_report(tmp_path, summary, pd.DataFrame({"mse": [1.0]}, index=["A"]), [], {None: Checked(None, None, ())}, {})
        assert (tmp_path / "report.md").read_text().splitlines()[2].startswith(start)
    summary = summary_of([second], [], SCORES)
    write_report(tmp_path, summary, pd.DataFrame({"mse": [1.0]}, index=["B"]), [], {None: Checked(None, None, ())}, {})
    assert "told apart from any other" not in (tmp_path / "report.md").read_text()


def test_scores_are_told_apart_by_context(tmp_path):
    scores = [{**TARGET, "context": "early"}, {**TARGET, "context": "late", "mse": 3.0}]
    summary = summary_of(scores, ["early", "late"], dict.fromkeys(("early", "late"), SCORES))
    checked = {name: Checked(None, None, ()) for name in ("early", "late")}
    write_report(tmp_path, summary, pd.DataFrame({"mse": [1.0]}, index=["A"]), [], checked, {})
    text = (tmp_path / "report.md").read_text()
    assert "1 of the measured perturbations, in 2 contexts" in text
    assert "1.00 times that of the mean" in text
    assert "| early | 1 | 0.5 | 0.9 |" in text
    assert "| late | 1 | 1.5 | 0.9 |" in text
    assert "| mean | late | 0.5 |" in text


def test_a_panel_for_every_target_and_context_and_what_is_cut_is_said(trained, unseen, tmp_path):
    effects = pd.concat([trained.predict_effects(unseen, n_cells=8).assign(context=c) for c in "abcdefg"], ignore_index=True)
    generated = trained.generate(unseen, n_cells=7)
    generated.obs["where"] = [*"abcdefg"] * len(unseen)
    control = trained.adata[(trained.adata.obs["perturbation"] == "control").to_numpy()].copy()
    control.obs["where"] = [*"abcdefg"] * (control.n_obs // 7)
    cells = cells_to_map(control, control[:0], generated, "perturbation", "where")
    assert cells.obs.groupby("kind").size().to_dict() == {"control": control.n_obs, "generated": generated.n_obs}
    plots = draw_plots(trained, effects.assign(observed=float("nan")), cells, tmp_path)
    files = ["gene_intervals.png", "ranked_effects.png", "cells.png", "perturbations.png", "losses.png"]
    assert [file for file, _ in plots] == files
    assert all("The first 12 of 14." in caption for _, caption in plots[:3])
