import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tiny import tiny_screen

from dbdiffusion.__main__ import main
from dbdiffusion._keys import EFFECT_COLUMNS

FAST = ["--max-epochs", "2", "--max-epochs-diffusion", "1", "--n-cells", "20", "--quiet"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    adata = tiny_screen(n_combinations=3)
    path = tmp_path_factory.mktemp("screen") / "screen.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def names(file):
    return sorted(set(ad.read_h5ad(file).obs["perturbation"].astype(str)) - {"control"})


@pytest.fixture(scope="module")
def out(file, names, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "results"
    single, double = next(n for n in names if "+" not in n), next(n for n in names if "+" in n)
    new = next(g for g in ad.read_h5ad(file).var_names if g not in names)
    code = main(
        [
            "--h5ad",
            str(file),
            "--batch-key",
            "batch",
            "--hold-out",
            single,
            double,
            "--targets",
            new,
            "--out",
            str(folder),
            *FAST,
        ]
    )
    assert code == 0
    return folder


def test_everything_is_written(out):
    expected = {
        "effects.csv", "differential_expression.csv", "generated.h5ad", "model", "report.md", "summary.json", "cells.png",
        "predicted_against_observed.png", "gene_intervals.png", "volcano.png", "losses.png", "calibration.png",
    }  # fmt: skip
    assert {p.name for p in out.iterdir()} == expected
    assert all(f"]({p.name})" in (out / "report.md").read_text() for p in out.glob("*.png"))


def test_summary_has_the_promised_fields(out):
    summary = json.loads((out / "summary.json").read_text())
    assert {"seed", "versions", "seconds", "embedding_scores", "targets"} <= set(summary)
    assert {"vae", "diffusion", "cross_fit", "predict", "calibration", "total"} == set(summary["seconds"])
    fields = [
        "target", "n_cells", "pearson_effect", "mse", "mse_mean_baseline", "mse_zero_baseline", "mse_ridge_baseline",
        "split_half_ceiling", "coverage_95", "width_95", "lam", "n_de", "de_precision", "de_recall",
    ]  # fmt: skip
    held_out, _, new = summary["targets"]
    assert list(held_out) == fields
    assert held_out["mse"] > 0
    assert new["mse"] is None
    assert new["width_95"] > 0


def test_tables(out, names):
    effects = pd.read_csv(out / "effects.csv")
    assert list(effects.columns[: len(EFFECT_COLUMNS)]) == list(EFFECT_COLUMNS)
    assert effects["status"].eq("unseen").all()
    observed = effects.groupby("target")["observed"].apply(lambda x: x.notna().all())
    assert observed.sum() == 2
    assert effects.loc[effects["observed"].notna(), "true_effect"].notna().all()
    everything = pd.read_csv(out / "differential_expression.csv")
    assert set(names) <= set(everything["target"])


def test_generated_cells_and_model_can_be_read(out):
    from dbdiffusion import DBDiffusion

    cells = ad.read_h5ad(out / "generated.h5ad")
    assert cells.n_obs == 60
    assert (cells.X.toarray() == np.round(cells.X.toarray())).all()
    assert DBDiffusion.load(out / "model", adata=False).is_diffusion_trained_


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hold-out", "GENE1x"], "has no cells"),
        (["--control", "contrl", "--hold-out-n", "1"], "'control'"),
        (["--perturbation-key", "perturbations", "--hold-out-n", "1"], "Did you mean 'perturbation'"),
        ([], "Nothing to predict"),
        (["--hold-out-n", "99"], "--hold-out-n"),
        (["--h5ad", "missing.h5ad", "--hold-out-n", "1"], "does not exist"),
        (["--strategy", "best", "--hold-out-n", "1"], "strategy"),
        (["--targets", "NOTAGENE"], "nothing places"),
    ],
)
def test_bad_input_is_a_line_and_exit_code_two(file, tmp_path, capsys, options, message):
    code = main(["--h5ad", str(file), *options, "--out", str(tmp_path / "results"), *FAST])
    assert code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_full_folder_is_refused_before_any_work(file, out, capsys):
    assert main(["--h5ad", str(file), "--hold-out-n", "1", "--out", str(out), *FAST]) == 2
    assert "--overwrite" in capsys.readouterr().err
