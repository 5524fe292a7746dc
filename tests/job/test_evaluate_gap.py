import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from dbdiffusion.job._evaluate import HeldOut, evidence_gap, gap_lines, warn_of

G, T = 41, 7
GENES = [f"GENE{i:02d}" for i in range(G)]
TARGETS = GENES[:T]
NOISE, CONTROL = 0.03, 0.01


def situation(realised, believed, rng, se=0.05):
    """Targets whose errors are a share of the mean's, and a calibration that believed another share."""
    truth = rng.standard_normal((T, G))
    observed = truth + np.sqrt(NOISE) * rng.standard_normal((T, G))
    predicted = truth + np.sqrt(realised) * rng.standard_normal((T, G))
    mean = truth + rng.standard_normal((T, G))
    table = pd.DataFrame({"target": np.repeat(TARGETS, G), "variable": np.tile(GENES, T)})
    effects, held = table.assign(effect=predicted.ravel()), table.assign(effect=observed.ravel(), se=np.sqrt(NOISE))
    effects.attrs = {"rectifier_mean": {"single": {"control_weight": 0.5}}}
    view = SimpleNamespace(
        parts_of=lambda name: (name,),
        baseline_effects=lambda name: {"mean": mean[TARGETS.index(name)]},
        control_variance=lambda: np.full(G, CONTROL),
    )
    evidence = pd.DataFrame({"relative_to_mean": [believed], "relative_to_mean_se": [se]}, index=["single"])
    return view, effects, HeldOut(held, dict.fromkeys(TARGETS, 20), {}), SimpleNamespace(evidence=evidence)


@pytest.mark.parametrize(("realised", "believed", "differs"), [(0.4, 0.4, False), (1.3, 0.8, True), (0.3, 0.9, True)])
def test_a_gap_is_seen_where_there_is_one(realised, believed, differs):
    row = evidence_gap(*situation(realised, believed, np.random.default_rng(0))).loc["single"]
    assert row["n"] == T
    assert row["realised"] == pytest.approx(realised, abs=3 * row["realised_se"])
    assert row["differs"] == differs


def test_the_targets_own_gene_does_not_count():
    view, effects, held_out, calibration = situation(0.4, 0.4, np.random.default_rng(0))
    before = evidence_gap(view, effects, held_out, calibration)
    changed = effects.assign(effect=np.where(effects["target"] == effects["variable"], 99.0, effects["effect"]))
    changed.attrs = effects.attrs
    pd.testing.assert_frame_equal(before, evidence_gap(view, changed, held_out, calibration))


def test_nothing_is_said_where_nothing_was_hidden_or_believed():
    view, effects, held_out, calibration = situation(0.4, 0.4, np.random.default_rng(0))
    assert evidence_gap(view, effects, None, calibration).empty
    assert evidence_gap(view, effects, held_out, None).empty
    assert gap_lines({None: evidence_gap(view, effects, None, None)}) == []


def test_a_gap_is_a_warning_and_a_sentence(caplog):
    wide = evidence_gap(*situation(1.3, 0.8, np.random.default_rng(0)))
    narrow = evidence_gap(*situation(0.4, 0.4, np.random.default_rng(0)))
    lines = gap_lines({"early": wide, "late": narrow})
    with caplog.at_level(logging.WARNING, "dbdiffusion"):
        warn_of({"early": wide, "late": narrow})
    assert len(caplog.records) == 1
    assert "does not hold" in lines[0]
    assert "early" in lines[0]
    assert "does not hold" not in lines[1]
