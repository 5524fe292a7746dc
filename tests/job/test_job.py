import json

import anndata as ad
import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from tiny import CONTEXTS, screen_in_two_contexts, tiny_screen

from dbdiffusion.__main__ import main
from dbdiffusion._keys import EFFECT_COLUMNS
from dbdiffusion.data import hold_out

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
    (folder.parent / "targets.txt").write_text(f"{new}\n{double}\n")
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
            "--targets-file",
            str(folder.parent / "targets.txt"),
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
        "report.html", "targets.csv", "effects.zarr",
        "predicted_against_observed.png", "gene_intervals.png", "ranked_effects.png", "losses.png", "calibration.png",
        "perturbations.png",
    }  # fmt: skip
    assert {p.name for p in out.iterdir()} == expected
    assert all(f"]({p.name})" in (out / "report.md").read_text() for p in out.glob("*.png"))


def test_summary_has_the_promised_fields(out):
    summary = json.loads((out / "summary.json").read_text())
    assert {"seed", "versions", "arguments", "input", "seconds", "embedding_scores", "targets"} <= set(summary)
    assert {"vae", "diffusion", "cross_fit", "predict", "calibration", "plots", "store", "total"} == set(summary["seconds"])
    fields = [
        "target", "n_cells", "pearson_effect", "mse", "mse_mean_baseline", "mse_zero_baseline", "mse_ridge_baseline",
        "split_half_ceiling", "coverage_95", "width_95", "lam", "told_apart", "n_listed", "n_de",
        "de_precision", "de_recall",
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
    stored = ad.read_zarr(out / "effects.zarr")
    assert stored.obs_names.tolist() == (out.parent / "targets.txt").read_text().split()
    wide = effects.pivot(index="target", columns="variable", values="effect").loc[stored.obs_names, stored.var_names]
    assert np.allclose(stored.X, wide, rtol=1e-5, atol=1e-7)


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
        (["--all-genes"], "so that the report can show"),
        (["--hold-out-n", "1", "--targets-file", "missing.txt"], "missing.txt"),
        (["--hold-out-n", "1", "--all-genes", "--context-key", "batch"], "not for several contexts"),
        (["--hold-out-n", "99"], "--hold-out-n"),
        (["--h5ad", "missing.h5ad", "--hold-out-n", "1"], "does not exist"),
        (["--strategy", "best", "--hold-out-n", "1"], "strategy"),
        (["--targets", "NOTAGENE"], "nothing places"),
        (["--targets", "control"], "what targets are compared with"),
        (["--hold-out", "control"], "what targets are compared with"),
        (["--strategy", "table", "--targets", "GENE00+GENE59"], "nothing places"),
        (["--embedding-key", "vectors", "--hold-out-n", "1"], "'vectors' is not in adata.uns"),
    ],
)
def test_bad_input_is_a_line_and_exit_code_two(file, tmp_path, capsys, untrained, options, message):
    code = main(["--h5ad", str(file), *options, "--out", str(tmp_path / "results"), *FAST])
    assert code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def untrained(monkeypatch):
    """Nothing may be trained."""

    def fit(*_args, **_kwargs):
        raise AssertionError("training was begun")

    monkeypatch.setattr(pl.Trainer, "fit", fit)


def test_a_measured_target_is_refused_in_every_order_of_its_parts(file, names, tmp_path, capsys, untrained):
    double = next(name for name in names if "+" in name)
    for target in (names[0], double, "+".join(reversed(double.split("+")))):
        assert main(["--h5ad", str(file), "--targets", target, "--out", str(tmp_path / "results"), *FAST]) == 2
        said = capsys.readouterr().err
        assert repr(target) in said
        assert "its effect is measured" in said


def test_an_output_folder_that_would_take_files_with_it_is_refused(file, tmp_path, monkeypatch, capsys, untrained):
    (tmp_path / "notes.txt").write_text("precious")
    monkeypatch.chdir(tmp_path)
    for out in ("", ".", str(tmp_path), str(file.parent)):
        assert main(["--h5ad", str(file), "--hold-out-n", "1", "--out", out, "--overwrite", *FAST]) == 2
        assert "folder of its own" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_full_folder_is_refused_before_any_work(file, out, capsys):
    assert main(["--h5ad", str(file), "--hold-out-n", "1", "--out", str(out), *FAST]) == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.fixture(scope="module")
def timed_file(tmp_path_factory):
    """Two contexts; the first perturbation has no gene and, as the second, no cells late."""
    adata = screen_in_two_contexts()
    named = adata.obs["perturbation"].astype(str)
    only_early = sorted(set(named) - {"control"})[:2]
    adata = adata[~(named.isin(only_early) & (adata.obs["time"] == "late")).to_numpy()].copy()
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace(only_early[0], "NOGENE")
    path = tmp_path_factory.mktemp("timed") / "screen.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def timed_targets(timed_file):
    """One hidden in one context, one in both, and one that was not measured."""
    adata = ad.read_h5ad(timed_file)
    names = [name for name in sorted(set(adata.obs["perturbation"])) if name in adata.var_names]
    return [*names[:2], next(gene for gene in adata.var_names if gene not in names)]


@pytest.fixture(scope="module")
def timed_out(timed_file, timed_targets, tmp_path_factory):
    folder = tmp_path_factory.mktemp("timed_run") / "results"
    what = ["--hold-out", *timed_targets[:2], "--targets", timed_targets[2]]
    where = ["--batch-key", "batch", "--context-key", "time", "--out", str(folder)]
    assert main(["--h5ad", str(timed_file), *where, *what, *FAST]) == 0
    return folder


def test_scores_of_held_out_targets_are_those_of_their_context(timed_out, timed_file, timed_targets):
    from dbdiffusion import DBDiffusion

    scores = pd.DataFrame(json.loads((timed_out / "summary.json").read_text())["targets"]).set_index(["target", "context"])
    only_early, both, new = timed_targets
    assert list(scores.index) == [(target, context) for context in CONTEXTS for target in timed_targets]
    assert scores["mse"].notna().to_dict() == {
        (target, context): target == both or (target == only_early and context == "early") for target, context in scores.index
    }
    assert scores.loc[new, "n_cells"].isna().all()

    adata = ad.read_h5ad(timed_file)
    late = adata[(adata.obs["time"] == "late").to_numpy()].copy()
    DBDiffusion.setup_anndata(late, batch_key="batch")
    observed = DBDiffusion(late).observed_effects().query("target == @both").set_index("variable")["effect"]
    effects = pd.read_csv(timed_out / "effects.csv").query("target == @both and context == 'late'").set_index("variable")
    np.testing.assert_allclose(effects["observed"], observed.loc[effects.index], rtol=1e-4, atol=1e-6)
    error = (effects["effect"] - observed).drop(both)
    assert scores.loc[(both, "late"), "mse"] == pytest.approx(float((error**2).mean()), rel=1e-3)
    assert scores.loc[(both, "late"), "n_cells"] == (late.obs["perturbation"] == both).sum()


def test_tables_and_cells_of_every_context(timed_out, timed_targets):
    effects = pd.read_csv(timed_out / "effects.csv")
    assert set(zip(effects["target"], effects["context"], strict=True)) == {(t, c) for t in timed_targets for c in CONTEXTS}
    assert effects["status"].eq("unseen").all()
    everything = pd.read_csv(timed_out / "differential_expression.csv")
    assert everything.query("target == 'NOGENE'")["context"].unique().tolist() == ["early"]
    assert not everything.query("status == 'unseen'")["target"].isin(["NOGENE"]).any()
    cells = ad.read_h5ad(timed_out / "generated.h5ad")
    assert cells.obs.groupby(["time", "perturbation"], observed=True).size().tolist() == [20] * 6
    assert cells.obs_names.is_unique


def test_the_report_speaks_of_every_context(timed_out):
    text = (timed_out / "report.md").read_text()
    assert "in each of 2 contexts (early, late)" in text
    assert "true effects are not shown" in text
    assert "**late.** Control cells as pseudo-perturbations" in text
    assert all(f"]({p.name})" in text for p in timed_out.glob("*.png"))
    assert len(list(timed_out.glob("*.png"))) == 7
    summary = json.loads((timed_out / "summary.json").read_text())
    for part in ("strategy", "weights", "embedding_scores", "calibration"):
        assert list(summary[part]) == list(CONTEXTS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--context-key", "tine"], "Did you mean 'time'"),
        (["--context-key", "time", "--cross-fitting", "k_fold"], "not for several contexts"),
    ],
)
def test_contexts_that_cannot_be_used_are_said_before_any_work(timed_file, tmp_path, capsys, options, message):
    code = main(["--h5ad", str(timed_file), "--hold-out-n", "1", *options, "--out", str(tmp_path / "results"), *FAST])
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_context_with_too_little_left_to_learn_from_is_named(timed_file, tmp_path, capsys):
    adata = ad.read_h5ad(timed_file)
    late = sorted(set(adata.obs.loc[adata.obs["time"] == "late", "perturbation"]) - {"control"})
    others, _ = hold_out(adata[(adata.obs["time"] == "late").to_numpy()], late[2:])
    kept = (adata.obs["time"] == "early") | adata.obs_names.isin(others.obs_names)
    adata[kept.to_numpy()].copy().write_h5ad(tmp_path / "screen.h5ad")
    options = ["--context-key", "time", "--hold-out", late[0], "--out", str(tmp_path / "results")]
    assert main(["--h5ad", str(tmp_path / "screen.h5ad"), *options, *FAST]) == 2
    assert "these keep fewer: {'late': 1}" in capsys.readouterr().err


SMALL = {"n_genes": 24, "n_perturbations": 7, "n_combinations": 2, "n_cells_per_perturbation": 10, "n_control_cells": 30}
ODD = {0: "drug $x$", 1: r"a$\frac$|b"}


def test_odd_names_both_orders_a_layer_and_a_foreign_table_do_not_lose_the_results(tmp_path):
    """Names with what plots and tables read as signs, X without counts, and an array where the simulator has its truth."""
    adata = tiny_screen(**SMALL)
    column = adata.obs["perturbation"].astype(str).to_numpy(dtype=object)
    names = sorted(set(column) - {"control"})
    double = next(name for name in names if "+" in name)
    turned = "+".join(reversed(double.split("+")))
    column[np.flatnonzero(column == double)[::2]] = turned
    renamed = {name: ODD[i] for i, name in enumerate([name for name in names if "+" not in name][:2])}
    adata.obs["perturbation"] = [renamed.get(name, name) for name in column]
    adata.layers["counts"], adata.X = adata.X, None
    adata.uns["true_effects"] = np.zeros(3)
    adata.write_h5ad(tmp_path / "screen.h5ad")
    out = tmp_path / "results"
    what = ["--layer", "counts", "--hold-out", *ODD.values(), turned, "--strategy", "mean", "--out", str(out)]
    assert main(["--h5ad", str(tmp_path / "screen.h5ad"), *what, *FAST]) == 0
    effects = pd.read_csv(out / "effects.csv")
    assert set(effects["target"]) == {*ODD.values(), turned}
    assert effects["status"].eq("unseen").all()
    assert effects["observed"].notna().all()
    assert double not in set(pd.read_csv(out / "differential_expression.csv")["target"])
    text = (out / "report.md").read_text()
    assert "3 targets predicted without any of their cells" in text
    assert r"a$\frac$\|b" in text


def test_a_job_that_fails_at_its_end_has_written_its_tables_and_the_model(tmp_path, monkeypatch, capsys):
    from dbdiffusion import DBDiffusion

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    tiny_screen(**SMALL).write_h5ad(tmp_path / "screen.h5ad")
    out = tmp_path / "results"
    command = ["--h5ad", str(tmp_path / "screen.h5ad"), "--hold-out-n", "1", "--out", str(out), *FAST]
    assert main(command) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert "effects.csv" in said[0]
    expected = {
        "effects.csv",
        "targets.csv",
        "differential_expression.csv",
        "model",
        "report.md",
        "summary.json",
        "generated.h5ad",
    }
    assert {path.name for path in out.iterdir()} == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "screen.h5ad"]
    assert json.loads((out / "summary.json").read_text())["finished"] is False
    assert DBDiffusion.load(out / "model", adata=False).is_diffusion_trained_
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
