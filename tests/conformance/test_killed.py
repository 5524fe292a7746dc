"""A run that is killed leaves files that load into what was saved, or into an error, never into something else."""

import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import anndata as ad
import pytest
import scvi
import torch
from dressed import fresh
from tiny import QUIET

import dbdiffusion
from dbdiffusion import DBDiffusion

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(dbdiffusion.__file__).parents[1])}
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture
def n_kills(request):
    return 50 if request.config.getoption("--slow") else 8


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


def run_and_kill(work, seconds):
    """Fork, let the child work for so long, kill it."""
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def whose(models, loaded):
    same = [
        all(torch.equal(value, loaded.module.state_dict()[name]) for name, value in model.module.state_dict().items())
        for model in models
    ]
    assert sum(same) == 1
    return same.index(True)


def test_saved_models_are_one_or_the_other(models, tmp_path, n_kills):
    chance, seen = random.Random(0), set()

    def work():
        while True:
            for model in models:
                model.save(tmp_path / "model", overwrite=True, save_anndata=True)

    for _ in range(n_kills):
        run_and_kill(work, chance.uniform(0.05, 0.6))
        if not (tmp_path / "model" / "model.pt").exists():
            with pytest.raises(ValueError, match="Failed to load model file"):
                DBDiffusion.load(tmp_path / "model", adata=False)
            continue
        owner = whose(models, DBDiffusion.load(tmp_path / "model", adata=False))
        assert ad.read_h5ad(tmp_path / "model" / "adata.h5ad").uns["whose"] == str(owner + 1)
        seen.add(owner)
    assert seen


def test_exported_weights_are_one_or_the_other(models, tmp_path, n_kills):
    chance, seen = random.Random(1), set()
    models[0].export_weights(tmp_path / "model")

    def work():
        while True:
            for model in models:
                model.export_weights(tmp_path / "model", overwrite=True)

    for _ in range(n_kills):
        run_and_kill(work, chance.uniform(0.02, 0.3))
        seen.add(whose(models, DBDiffusion.load_weights(tmp_path / "model")))
    assert seen


TRAINING = """
import sys
import scvi
from dbdiffusion import DBDiffusion
scvi.settings.logging_dir = sys.argv[1]
model = DBDiffusion.load(sys.argv[2])
print("ready", flush=True)
model.train_diffusion(max_epochs=5000, enable_checkpointing=True, check_val_every_n_epoch=1, enable_progress_bar=False)
"""


def test_checkpoints_of_a_killed_training_hold_stage_one(models, tmp_path, request):
    chance, model = random.Random(2), models[0]
    model.save(tmp_path / "stage_one", save_anndata=True)
    vae = {name: value for name, value in model.module.state_dict().items() if "diffusion" not in name}
    arguments = [sys.executable, "-c", TRAINING, str(tmp_path / "logs"), str(tmp_path / "stage_one")]
    for _ in range(10 if request.config.getoption("--slow") else 1):
        run = subprocess.Popen(arguments, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert any(line == b"ready\n" for line in run.stdout)
        time.sleep(chance.uniform(2, 5))
        run.kill()
        run.communicate()
    files = sorted((tmp_path / "logs").rglob("model.pt"), key=lambda file: file.stat().st_mtime)
    assert files
    for file in files[-3:]:
        if not zipfile.is_zipfile(file):
            with pytest.raises(ValueError, match="no whole checkpoint"):
                DBDiffusion.load(file.parent, adata=False)
            continue
        loaded = DBDiffusion.load(file.parent, adata=False)
        assert all(torch.equal(value, loaded.module.state_dict()[name]) for name, value in vae.items())
        with pytest.raises(RuntimeError, match="Stage two"):
            loaded.generate(loaded.perturbation_names[0])


def test_a_killed_job_leaves_no_report_or_a_whole_one(tmp_path, request):
    options = ["--max-epochs", "1", "--max-epochs-diffusion", "1", "--quiet"]
    command = [sys.executable, "-m", "dbdiffusion", "--out", str(tmp_path / "report"), "--overwrite", *options]
    chance = random.Random(3)
    for _ in range(6 if request.config.getoption("--slow") else 1):
        run = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run.wait(timeout=chance.uniform(4, 60 if request.config.getoption("--slow") else 8))
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()
        if (tmp_path / "report").exists():
            assert {"report.md", "summary.json"} <= {file.name for file in (tmp_path / "report").iterdir()}
