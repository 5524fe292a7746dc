"""What several processes do is what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dbdiffusion

SCRIPT = Path(__file__).parent.parent / "distributed.py"


@pytest.mark.slow
def test_two_processes_train_as_one_at_the_same_global_batch(tmp_path):
    path = os.pathsep.join([str(SCRIPT.parent), str(Path(dbdiffusion.__file__).parent.parent)])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    for n_processes in (1, 2):
        command = [sys.executable, str(SCRIPT), str(n_processes), str(tmp_path)]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    one, first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("1_0", "2_0", "2_1"))
    assert len(one["losses"]) == 12
    assert one["losses"][-1] < one["losses"][0]
    np.testing.assert_allclose(first["losses"], one["losses"], rtol=1e-4)
    np.testing.assert_allclose(first["averaged"], one["averaged"], atol=1e-4)
    assert second["averaged"] == first["averaged"]


def test_targets_predicted_apart_are_those_predicted_together(trained, unseen):
    names = [*unseen, trained.perturbation_names[0]]
    together = trained.predict_effects(names, seed=3)
    for name in names:
        alone = trained.predict_effects(name, seed=3)
        block = together[together["target"] == name].reset_index(drop=True)
        assert alone["variable"].tolist() == block["variable"].tolist()
        for column in ("effect", "se", "df", "ci_low", "ci_high"):
            np.testing.assert_allclose(alone[column], block[column], atol=1e-6, rtol=1e-5, err_msg=column)


def test_targets_generated_apart_are_those_generated_together(trained, unseen):
    together = trained.generate(unseen, n_cells=30, seed=3)
    for name in unseen:
        rows = (together.obs["perturbation"] == name).to_numpy()
        alone = trained.generate(name, n_cells=30, seed=3)
        assert (alone.X != together[rows].X).nnz == 0
        assert alone.obs["library_size"].tolist() == together.obs["library_size"][rows].tolist()
