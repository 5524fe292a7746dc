import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from tiny import tiny_model, tiny_screen, train_quickly

from dbdiffusion import DBDiffusion
from dbdiffusion.diffusion import steps_of
from dbdiffusion.predict import GenerationOptions


def dense(adata):
    return adata.X.toarray()


def test_output_is_counts_with_provenance(trained, unseen):
    cells = trained.generate(unseen, n_cells=9, seed=3)
    assert cells.shape == (18, trained.adata.n_vars)
    assert list(cells.var_names) == list(trained.adata.var_names)
    assert (dense(cells) == np.round(dense(cells))).all()
    assert cells.obs["perturbation"].value_counts().to_dict() == dict.fromkeys(unseen, 9)
    assert cells.uns["dbdiffusion"]["seed"] == 3
    assert cells.uns["dbdiffusion"]["n_steps"] == steps_of("dpm++")
    assert set(cells.obs["strategy"]) <= {"knn", "ridge", "cluster", "mean"}


def test_same_seed_same_cells_whatever_else_is_asked(trained, unseen):
    alone = trained.generate(unseen[1], n_cells=20, seed=5)
    together = trained.generate([*unseen, trained.perturbation_names[0]], n_cells=20, seed=5)
    rows = (together.obs["perturbation"] == unseen[1]).to_numpy()
    assert np.array_equal(dense(alone), dense(together)[rows])
    longer = trained.generate(unseen[1], n_cells=700, seed=5)
    assert np.array_equal(dense(longer)[:20], dense(alone))
    other = trained.generate(unseen[1], n_cells=20, seed=6)
    assert not np.array_equal(dense(alone), dense(other))


def test_generation_leaves_the_global_generator_alone(trained, unseen):
    import torch

    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    trained.generate(unseen[0], n_cells=3)
    assert torch.equal(torch.rand(1), expected)


def test_control_can_be_generated_and_matches_control(trained):
    cells = trained.generate("control", n_cells=600)
    observed = trained.adata[trained.adata.obs["perturbation"] == "control"]
    depth, observed_depth = dense(cells).sum(1).mean(), observed.X.sum(1).mean()
    assert abs(depth / observed_depth - 1) < 0.1
    assert abs((dense(cells) == 0).mean() - 1 + observed.X.nnz / np.prod(observed.shape)) < 0.1  # 15 epochs of a 16-unit VAE


def test_library_of_matched_cells_is_given(trained, unseen):
    cells = trained.generate(unseen[0], n_cells=50)
    observed = trained.adata[trained.adata.obs["perturbation"] == "control"].X.sum(1)
    assert set(np.round(cells.obs["library_size"])) <= set(np.round(np.asarray(observed).ravel()))


def test_batch_can_be_chosen(trained, unseen):
    one = trained.generate(unseen[0], n_cells=5, batch="batch0")
    other = trained.generate(unseen[0], n_cells=5, batch="batch1")
    assert not np.array_equal(dense(one), dense(other))


def test_guidance_zero_forgets_the_target(trained, unseen):
    predictor = trained.predictor()
    embeddings, control = predictor.space.embed(unseen), predictor.space.control
    effects, _ = predictor.generator.effects(embeddings, control, 64, GenerationOptions(guidance_scale=0.0))
    assert np.abs(effects).max() < 1e-5


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_cells": 0}, "n_cells"),
        ({"guidance_scale": -1.0}, "guidance_scale"),
        ({"n_steps": 1}, "n_steps"),
        ({"sampler": "euler"}, "sampler"),
        ({"batch": "bacth0"}, "batch0"),
    ],
)
def test_impossible_options_are_refused(trained, unseen, options, match):
    with pytest.raises(ValueError, match=match):
        trained.generate(unseen[0], **options)


def test_misspelt_target_gets_a_suggestion(trained):
    with pytest.raises(KeyError, match=r"Did you mean .*'GENE"):
        trained.generate("GENE1x")


def test_stages_are_named_when_missing(unseen):
    adata = tiny_screen()
    DBDiffusion.setup_anndata(adata)
    model = tiny_model(adata)
    with pytest.raises(RuntimeError, match="train_vae"):
        model.generate(unseen[0])
    with pytest.raises(RuntimeError, match="train_vae"):
        model.train_diffusion()
    model.train_vae(max_epochs=1, enable_progress_bar=False)
    with pytest.raises(RuntimeError, match="train_diffusion"):
        model.generate(unseen[0])


def test_combinations_in_any_order():
    adata = tiny_screen(n_combinations=4)
    DBDiffusion.setup_anndata(adata)
    model = train_quickly(tiny_model(adata), 2, 2)
    measured = next(name for name in model.perturbation_names if "+" in name)
    swapped = "+".join(reversed(measured.split("+")))
    space = model._space()
    assert np.array_equal(space.embed([measured]), space.embed([swapped]))
    singles = [name for name in model.perturbation_names if "+" not in name]
    new = next(f"{a}+{b}" for a in singles for b in singles if a < b and not space.is_measured(f"{a}+{b}"))
    a, b = new.split("+")
    assert np.allclose(space.embed([new]), space.embed([a]) + space.embed([b]) - space.control)
    assert model.generate(new, n_cells=3).n_obs == 3
    assert model.strategy_of(new) == "measured+measured"


@pytest.fixture(scope="module")
def covaried():
    adata = tiny_screen()
    rng = np.random.default_rng(0)
    adata.obs["donor"] = pd.Categorical(rng.choice(["d1", "d2"], adata.n_obs))
    adata.obs["dose"] = rng.random(adata.n_obs)
    in_second = (adata.obs["donor"] == "d2").to_numpy()
    dense = adata.X.toarray()
    dense[in_second, :10] *= 4
    adata.X = sp.csr_matrix(dense)
    DBDiffusion.setup_anndata(adata, categorical_covariate_keys=["donor"], continuous_covariate_keys=["dose"])
    model = tiny_model(adata)
    model.train(max_epochs=30, max_epochs_diffusion=5, enable_progress_bar=False)
    return model


def test_covariates_are_the_ones_asked_for(covaried):
    share = {donor: covaried.generate("control", 300, covariates={"donor": donor}).X[:, :10].sum() for donor in ("d1", "d2")}
    usual = covaried.generate("control", 300).X[:, :10].sum()
    assert share["d1"] < usual < share["d2"]
    higher, lower = (covaried.generate("control", 5, covariates={"dose": dose}).X.toarray() for dose in (0.9, 0.1))
    assert not np.array_equal(higher, lower)


@pytest.mark.parametrize(
    ("covariates", "match"),
    [
        ({"donr": "d1"}, "Did you mean"),
        ({"donor": "d3"}, r"covariates\['donor'\]"),
        ({"dose": "much"}, "finite number"),
        ({"dose": np.nan}, "finite number"),
    ],
)
def test_unknown_covariates_are_refused(covaried, covariates, match):
    with pytest.raises(ValueError, match=match):
        covaried.generate("control", 5, covariates=covariates)


@pytest.mark.parametrize("legacy", [False, "1.21"])
def test_seeds_and_names_mean_the_same_whatever_their_type(trained, unseen, legacy):
    """Also under other options of numpy's prints."""
    right = dense(trained.generate(unseen[0], n_cells=20, seed=3))
    table = trained.predict_effects(unseen[0], seed=3, n_cells=16, lam=1.0)
    with np.printoptions(legacy=legacy, precision=2):
        for seed in (np.int64(3), np.uint8(3), np.float32(3), 3.0, np.array(3), torch.tensor(3)):
            assert np.array_equal(dense(trained.generate(unseen[0], n_cells=np.int32(20), seed=seed)), right)
            again = trained.predict_effects(np.str_(unseen[0]), seed=seed, n_cells=np.int64(16), lam=np.float64(1))
            pd.testing.assert_frame_equal(again, table)
            assert again.attrs["seed"] == 3
            assert type(again.attrs["seed"]) is int
        for names in (np.str_(unseen[0]), np.array(unseen[:1]), pd.Index(unseen[:1]), pd.Series(unseen[:1]), {unseen[0]}):
            cells = trained.generate(names, n_cells=20, seed=3, batch=None)
            assert np.array_equal(dense(cells), right)
            assert cells.obs["perturbation"].tolist() == unseen[:1] * 20
        batch = trained.generate(unseen[0], n_cells=5, batch=np.str_("batch1"))
        assert np.array_equal(dense(batch), dense(trained.generate(unseen[0], n_cells=5, batch="batch1")))


def test_cells_written_to_a_file_are_those_in_memory(trained, unseen, tmp_path):
    names, options = ["control", *unseen], {"n_cells": 700, "n_steps": 4, "seed": 2}
    memory = trained.generate(names, **options)
    backed = trained.generate(names, path=tmp_path / "new" / "cells.h5ad", **options)
    assert backed.isbacked
    whole = ad.read_h5ad(tmp_path / "new" / "cells.h5ad")
    for cells in (backed.to_memory(), whole):
        assert np.array_equal(dense(cells), dense(memory))
        assert cells.X.dtype == memory.X.dtype
        pd.testing.assert_frame_equal(cells.obs, memory.obs)
        assert list(cells.var_names) == list(memory.var_names)
        assert dict(cells.uns["dbdiffusion"]) == memory.uns["dbdiffusion"]
    backed.file.close()


def test_a_file_of_cells_is_new_and_appears_whole(trained, unseen, tmp_path):
    file = tmp_path / "cells.h5ad"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match="name another file"):
        trained.generate(unseen, n_cells=5, path=file)
    assert file.read_text() == "mine"
    with pytest.raises(KeyError, match="nothing places"):
        trained.generate([unseen[0], "NOTAGENE"], n_cells=5, path=str(tmp_path / "other.h5ad"))
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


def test_cells_stream_into_the_result(trained, unseen):
    """What Python holds at once is not much more than the result, and never all cells with their zeros."""
    import tracemalloc

    trained.generate(unseen[0], n_cells=5)
    tracemalloc.start()
    counts = trained.generate(unseen[0], n_cells=20_000, n_steps=2).X
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    size = sum(part.nbytes for part in (counts.data, counts.indices, counts.indptr))
    names = 20_000 * 120  # bytes of the names and the table of cells
    assert peak < 2 * size + names


@pytest.mark.parametrize("key", ["strategy", "library_size", "x/y $z$"])
def test_the_column_of_perturbations_may_have_any_name(key):
    adata = tiny_screen(n_perturbations=4)
    adata.obs[key] = adata.obs.pop("perturbation")
    DBDiffusion.setup_anndata(adata, perturbation_key=key)
    model = train_quickly(tiny_model(adata), 1, 1)
    cells = model.generate(["control", model.perturbation_names[0]], n_cells=2)
    assert cells.obs[key].tolist() == ["control"] * 2 + model.perturbation_names[:1] * 2
    assert cells.obs.shape == (4, 3)
