"""What is said of each target as a table."""

import numpy as np
import pandas as pd
import pytest

QUICK = {"n_cells": 16}
EXPECTED = ["correlation", "right_20", "right_50"]


@pytest.fixture(scope="module")
def table(trained, unseen):
    return trained.target_confidence([*unseen, "+".join(unseen), trained.perturbation_names[0]], **QUICK)


def test_one_row_a_target_in_the_order_they_were_named(table, trained, unseen):
    assert table["target"].tolist() == [*unseen, "+".join(unseen), trained.perturbation_names[0]]
    assert table["status"].tolist() == ["unseen"] * 3 + ["measured"]
    assert table["strategy"].iloc[-1] == "measured"
    assert table["strategy"].iloc[0] == trained.strategy_of(unseen[0])


def test_expectations_lie_inside_their_intervals_and_only_of_unseen_targets(table):
    for name in EXPECTED:
        said = table.dropna(subset=[name])
        assert (said["status"] == "unseen").all()
        assert (said[f"{name}_low"] <= said[name] + 1e-9).all()
        assert (said[name] <= said[f"{name}_high"] + 1e-9).all()
    assert table["correlation"].dropna().between(-1, 1).all()


def test_cells_and_nearest_measured_ones_are_told(table, trained):
    assert table["n_cells"].iloc[:3].tolist() == [0, 0, 0]
    assert table["n_cells"].iloc[-1] > 0
    near = table["nearest"].str.split(", ")
    assert near.map(lambda names: set(names) <= set(trained.perturbation_names)).all()
    assert trained.perturbation_names[0] not in near.iloc[-1]
    assert table["similarity"].between(-1, 1).all()


def test_a_target_is_told_the_same_alone(table, trained, unseen):
    alone = trained.target_confidence(unseen[1], **QUICK)
    pd.testing.assert_frame_equal(alone, table.iloc[[1]].reset_index(drop=True), rtol=1e-4)


def test_a_wider_interval_holds_the_narrower(trained, unseen):
    narrow, wide = (trained.target_confidence(unseen, confidence=level, **QUICK) for level in (0.5, 0.8))
    for name in EXPECTED:
        assert (wide[f"{name}_low"].fillna(0) <= narrow[f"{name}_low"].fillna(0)).all()
        assert (wide[f"{name}_high"].fillna(0) >= narrow[f"{name}_high"].fillna(0)).all()


def test_in_sample_references_say_nothing(trained, unseen):
    table = trained.target_confidence(unseen, cross_fitting="in_sample", **QUICK)
    assert np.isnan(table[EXPECTED].to_numpy()).all()


def test_what_nothing_places_and_control_are_refused(trained):
    with pytest.raises(KeyError, match="NOTHING"):
        trained.target_confidence("NOTHING", **QUICK)
    with pytest.raises(ValueError, match="control"):
        trained.target_confidence("control", **QUICK)
