"""Lists, confidence and coverage of left-out references, and the verdict in words."""

import numpy as np
import pandas as pd
import pytest

from dbdiffusion.predict._calibration import coverage_in_thirds, verdict_of

EVIDENCE = {"relative_to_zero": 0.4, "relative_to_zero_se": 0.1, "relative_to_mean": 0.9, "relative_to_mean_se": 0.1}
LIST = {"n_listed": 88.0, "share_empty": 0.1, "wrong": 0.02, "least_promise": 0.03}


def verdict(evidence=(), **of_list):
    lists = pd.DataFrame({0.1: {**LIST, **of_list}}).T
    return verdict_of(pd.Series({**EVIDENCE, **dict(evidence)}), lists)


def test_better_is_what_lies_two_standard_errors_below_one():
    said = verdict()
    assert "predicted better than by no effect (0.40 times its squared error, standard error 0.10)" in said
    assert "not surely better than by the mean of the measured ones (0.90 times its squared error, standard error 0.10)" in said
    assert "not surely better than by no effect" in verdict({"relative_to_zero": 0.85})
    assert "predicted no better than by no effect (1.00 times" in verdict({"relative_to_zero": 0.997})
    assert "not surely better than by no effect (0.04 times its squared error, too few to say how surely)" in verdict(
        {"relative_to_zero": 0.04, "relative_to_zero_se": np.nan}
    )


def test_the_verdict_says_on_how_few_it_rests():
    evidence, lists = pd.Series(EVIDENCE), pd.DataFrame({0.1: LIST}).T
    assert "Only 3 of them could be placed and tell this" in verdict_of(evidence, lists, n_placed=3)
    assert verdict_of(evidence, lists, n_placed=10) == verdict_of(evidence, lists)
    nothing = verdict_of(0 * evidence / 0, lists, n_placed=0)
    assert nothing.startswith("No left-out perturbation could be placed by the others, so no prediction was tested. Lists")
    assert "nan" not in nothing
    weak = verdict({"relative_to_zero": np.nan, "relative_to_zero_se": np.nan, "relative_to_mean": -0.5})
    assert "no better than by no effect (whose error is not beyond the noise of the observations)" in weak
    assert "better than by the mean of the measured ones (0.00 times" in weak


def test_the_verdict_says_what_lists_hold():
    assert (
        "at most 10% wrong signs or null effects had 88 genes in the median (10% were empty) and held 2.0% wrong" in verdict()
    )


def test_the_verdict_says_why_there_are_no_lists():
    assert "least promise is 20%" in verdict(least_promise=0.2)
    assert "were empty for 98% of the left-out perturbations" in verdict(share_empty=0.98, n_listed=0.0)
    assert "does not tell which genes" in verdict(share_empty=1.0, n_listed=0.0)
    assert "no list can be checked" in verdict_of(pd.Series(EVIDENCE), pd.DataFrame())


def test_thirds_hold_all_and_are_in_order():
    rng = np.random.default_rng(0)
    strength, pit = rng.standard_normal(13), rng.uniform(size=(13, 40))
    pit[np.argsort(strength)[-4:]] = 0.99  # the strongest are never covered
    table = coverage_in_thirds(pit, {"strength": strength})
    assert table["n"].sum() == 13
    assert table["coverage"].iloc[2] == 0 < table["coverage"].iloc[0]


def test_what_is_not_known_counts_in_no_third():
    pit, by = np.full((6, 3), 0.5), np.array([1.0, np.nan, 2.0, 3.0, np.nan, 4.0])
    pit[0] = np.nan
    assert coverage_in_thirds(pit, {"similarity": by})["n"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_perturbations_leave_thirds_empty(n):
    table = coverage_in_thirds(np.full((n, 3), 0.5), {"strength": np.arange(float(n))})
    assert table["n"].sum() == n
    assert len(table) == 3


def test_calibration_holds_it_all(trained):
    calibration = trained.calibration(n_cells=16)
    assert calibration.lists["level"].tolist() == [0.05, 0.1, 0.2]
    assert calibration.lists[["n_listed", "share_empty", "wrong"]].notna().all(axis=None)
    assert (calibration.thirds.groupby("by")["n"].sum() == len(trained.perturbation_names)).all()
    assert len(calibration.signs) == 10
    assert (calibration.signs["n_signs"] > 0).any()
    assert set(calibration.accuracy.index) == {"single"}
    assert calibration.verdict.startswith("On this screen")
