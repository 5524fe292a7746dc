"""Laws of questions from the shell: the answer is the model's, it is written, and what cannot be meant is one line."""

import anndata as ad
import pandas as pd
import pytest

from dbdiffusion.__main__ import main
from dbdiffusion._arguments import parse_arguments

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    trained.save(folder / "model")
    return folder


def test_the_first_word_is_the_command_and_the_main_job_is_meant_otherwise():
    assert parse_arguments([]).command == "run"
    assert parse_arguments(["run", "--seed", "3"]).seed == 3
    assert parse_arguments(["--targets", "rank"]).targets == ["rank"]
    assert parse_arguments(["rank", "m", "--direction", "A", "B"]).direction == ["A", "B"]


def test_rank_writes_what_the_model_says(folder, trained, unseen, capsys):
    genes = trained.adata.var_names
    pd.DataFrame({"gene": genes[:3], "weight": [1.0, -1.0, 2.0]}).to_csv(folder / "signature.csv", index=False)
    out = folder / "ranking.csv"
    words = ["rank", str(folder / "model"), "--signature", str(folder / "signature.csv"), "--candidates", *unseen]
    assert main([*words, "--confidence", "0.8", "--out", str(out), "--quiet"]) == 0
    expected = trained.rank_targets(dict(zip(genes[:3], [1.0, -1.0, 2.0], strict=True)), unseen, confidence=0.8)
    written = pd.read_csv(out)
    assert written["target"].tolist() == expected["target"].tolist()
    assert written["effect"].to_numpy() == pytest.approx(expected["effect"].to_numpy(), abs=1e-4)
    said = capsys.readouterr().out
    assert "Precision of the first of the ranking" in said
    assert unseen[0] in said


def test_suggest_names_perturbations_to_measure(folder, trained, capsys):
    assert main(["suggest", str(folder / "model"), "3", "--out", str(folder / "next.csv")]) == 0
    assert pd.read_csv(folder / "next.csv")["target"].tolist() == trained.suggest_targets(3)["target"].tolist()
    assert "uncertain by" in capsys.readouterr().out


def test_effects_are_written_in_parts_of_one_command(folder, trained, unseen, capsys):
    (folder / "targets.txt").write_text("\n".join(unseen))
    store, few = folder / "effects.zarr", ["--n-cells", "32", "--quiet"]
    words = ["effects", str(folder / "model"), str(store), "--targets-file", str(folder / "targets.txt"), *few]
    assert main([*words, "--part", "2/2"]) == 0
    assert "Part 2 of 2 is done" in capsys.readouterr().out
    assert not store.exists()
    assert main(words) == 0
    written = ad.read_zarr(store)
    expected = trained.predict_effects(unseen, n_cells=32)
    assert written.obs_names.tolist() == unseen
    assert written.X.ravel() == pytest.approx(expected["effect"].to_numpy(), rel=1e-4, abs=1e-5)


def test_compare_says_its_verdict_of_cells_and_of_tables(folder, trained, screen, capsys):
    predicted = trained.observed_effects()
    predicted.to_csv(folder / "effects.csv", index=False)
    screen.write_h5ad(folder / "new.h5ad")
    plot = folder / "errors.png"
    words = ["compare", str(folder / "effects.csv")]
    assert main([*words, "--h5ad", str(folder / "new.h5ad"), "--batch-key", "batch", "--plot", str(plot)]) == 0
    assert "Squared error is" in capsys.readouterr().out
    assert plot.stat().st_size > 1000
    assert main([*words, "--observed", str(folder / "effects.csv")]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rank", "{m}", "--direction", "NOGENE"], "not measured"),
        (["rank", "{m}", "--signature", "{f}/no.csv"], "no.csv"),
        (["rank", "{f}/nomodel", "--direction", "A"], "nomodel"),
        (["suggest", "{m}", "0"], "`n` must be a whole number"),
        (["suggest", "{m}", "2", "--context", "late"], "context"),
        (["suggest", "{m}", "2", "--out", "{f}/no/x.csv"], "folder that exists"),
        (["effects", "{m}", "{f}/x.zarr", "--targets-file", "{f}/no.txt"], "no.txt"),
        (["effects", "{m}", "{f}/x.zarr", "--targets", "NOGENE"], "NOGENE"),
        (["effects", "{m}", "{f}/x.zarr", "--all-genes", "--part", "3/2"], "`part[0]`"),
        (["compare", "{f}/model/model.pt", "--observed", "{f}/model/model.pt"], "no table"),
    ],
)
def test_what_cannot_be_meant_is_one_line(folder, capsys, words, said):
    filled = [word.format(m=folder / "model", f=folder) for word in words]
    assert main(filled) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert said in error
    assert "\n" not in error
