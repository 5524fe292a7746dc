import runpy
from pathlib import Path

import numpy as np

TUTORIAL = Path(__file__).parent.parent / "tutorials" / "quickstart.py"


def test_quickstart_runs_and_predicts():
    results = runpy.run_path(str(TUTORIAL))["main"]()
    scores = results["scores"]
    assert len(results["hidden"]) == 2
    assert np.isfinite(results["effects"]["effect"]).all()
    assert len(scores) == 2
