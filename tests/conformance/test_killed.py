"""A run that is killed leaves files that load into what was saved, or into an error, never into something else."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import scvi
import torch
from dressed import dressed_screen, fresh
from tiny import QUIET

import dbdiffusion
from dbdiffusion import DBDiffusion

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(dbdiffusion.__file__).parents[1])}
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def n_kills(request):
    return 15 if request.config.getoption("--slow") else 8


@pytest.fixture(scope="module")
def models():
    """Two models of one stage, with different weights and cells that say whose they are."""
    pair = []
    for seed in (1, 2):
        model = fresh()
        scvi.settings.seed = seed
        model.train_vae(max_epochs=seed, **QUIET)
        model.adata.uns = {
            "whose": str(seed),
            **{key: value for key, value in model.adata.uns.items() if key.startswith("_scvi")},
        }
        pair.append(model)
    return pair


def run_and_kill(works, seconds, how):
    """Fork, let the child work until one of its works is done and for so long from then on, end it."""
    done, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            for work in works:
                work()
                os.write(tell, b"x")
        finally:
            os._exit(0)
    os.close(tell)
    assert os.read(done, 1), "the work failed before it was ended"
    time.sleep(seconds)
    os.kill(child, how)
    is_ended = ended_in_time(child)
    if not is_ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(done)
    assert is_ended, f"it did not heed {how!r}"


def ended_in_time(child, seconds=60):
    last = time.monotonic() + seconds
    while (is_running := os.waitpid(child, os.WNOHANG) == (0, 0)) and time.monotonic() < last:
        time.sleep(0.01)
    return not is_running


def strays(folder):
    return [path for path in folder.rglob("*") if ".unfinished" in path.name]


def whose(models, loaded):
    same = [
        all(torch.equal(value, loaded.module.state_dict()[name]) for name, value in model.module.state_dict().items())
        for model in models
    ]
    assert sum(same) == 1
    return same.index(True)


ENDS = pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])


@ENDS
def test_saved_models_are_one_or_the_other_and_there_always_is_one(models, tmp_path, n_kills, how):
    chance, folder = random.Random(0), tmp_path / "model"
    works = [partial(model.save, folder, overwrite=True, save_anndata=True) for model in models]
    for _ in range(n_kills):
        run_and_kill(itertools.cycle(works), chance.uniform(0, 0.6), how)
        owner = whose(models, DBDiffusion.load(folder, adata=False))
        assert how is signal.SIGKILL or not strays(tmp_path)
        try:
            assert DBDiffusion.load(folder).adata.uns["whose"] == str(owner + 1)
        except ValueError as error:  # killed between the two files
            assert "not the file that was saved with the model" in str(error)  # noqa: PT017


@ENDS
def test_a_new_folder_is_there_or_not(models, tmp_path, n_kills, how):
    chance = random.Random(4)
    for kill in range(n_kills // 3):
        works = [partial(models[0].save, tmp_path / f"model{kill}-{i}", save_anndata=True) for i in range(1000)]
        run_and_kill(works, chance.uniform(0, 0.6), how)
        assert how is signal.SIGKILL or not strays(tmp_path)
    folders = list(tmp_path.glob("model*"))
    assert len(folders) >= n_kills // 3
    for folder in folders:
        assert whose(models, DBDiffusion.load(folder)) == 0


@ENDS
def test_exported_weights_are_one_or_the_other(models, tmp_path, n_kills, how):
    chance = random.Random(1)
    models[0].export_weights(tmp_path / "model")
    (tmp_path / "model" / "weights-of-mine.safetensors").write_text("precious")
    works = [partial(model.export_weights, tmp_path / "model", overwrite=True) for model in models]
    for _ in range(n_kills):
        run_and_kill(itertools.cycle(works), chance.uniform(0, 0.3), how)
        whose(models, DBDiffusion.load_weights(tmp_path / "model"))
        assert how is signal.SIGKILL or not strays(tmp_path)
    assert (tmp_path / "model" / "weights-of-mine.safetensors").read_text() == "precious"


TRAINING = """
import sys
import scvi
from dbdiffusion import DBDiffusion
scvi.settings.logging_dir = sys.argv[1]
model = DBDiffusion.load(sys.argv[2])
print("ready", flush=True)
model.train_diffusion(max_epochs=5000, enable_checkpointing=True, check_val_every_n_epoch=1, enable_progress_bar=False)
"""


@ENDS
def test_checkpoints_of_a_killed_training_hold_stage_one(models, tmp_path, request, how):
    chance, model = random.Random(2), models[0]
    model.save(tmp_path / "stage_one", save_anndata=True)
    vae = {name: value for name, value in model.module.state_dict().items() if "diffusion" not in name}
    arguments = [sys.executable, "-c", TRAINING, str(tmp_path / "logs"), str(tmp_path / "stage_one")]
    for _ in range(7 if request.config.getoption("--slow") else 1):
        run = subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert any(line == b"ready\n" for line in run.stdout)
        time.sleep(chance.uniform(2, 5))
        run.send_signal(how)
        run.communicate()
    assert how is signal.SIGKILL or not strays(tmp_path)
    files = sorted((tmp_path / "logs").rglob("model.pt"), key=lambda file: file.stat().st_mtime)
    assert files
    for file in files[-3:]:
        loaded = DBDiffusion.load(file.parent, adata=False)
        assert all(torch.equal(value, loaded.module.state_dict()[name]) for name, value in vae.items())
        with pytest.raises(RuntimeError, match="Stage two"):
            loaded.generate(loaded.perturbation_names[0])


@ENDS
def test_a_killed_job_leaves_no_report_or_a_whole_one(tmp_path, request, how):
    sizes = ["--max-epochs", "1", "--max-epochs-diffusion", "1", "--quiet", "--n-cells", "20", "--hold-out-n", "1"]
    dressed_screen().write_h5ad(tmp_path / "screen.h5ad")
    out = tmp_path / "out" / "report"
    command = [sys.executable, "-m", "dbdiffusion", "--h5ad", str(tmp_path / "screen.h5ad"), "--out", str(out), "--overwrite"]
    is_slow = request.config.getoption("--slow")
    chance = random.Random(3)
    for _ in range(10 if is_slow else 1):
        run = subprocess.Popen([*command, *sizes], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            run.wait(timeout=chance.uniform(4, 40 if is_slow else 12))
        except subprocess.TimeoutExpired:
            run.send_signal(how)
        said = run.communicate()[1].decode()
        assert run.returncode in (0, -how, 143), said
        if out.exists():
            assert {"report.md", "summary.json"} <= {file.name for file in out.iterdir()}
            assert json.loads((out / "summary.json").read_text())["finished"]
        assert how is signal.SIGKILL or not strays(tmp_path)
