import numpy as np
import pytest
from dressed import briefly, fresh
from tiny import tiny_screen

from dbdiffusion import DBDiffusion

pytestmark = pytest.mark.filterwarnings("ignore::dbdiffusion.ScreenWarning")


def sizes_in(adata):
    """Cells of every perturbation, and those that are used."""
    sizes = adata.obs["perturbation"].astype(str).value_counts().drop("control").sort_index().tolist()
    return sizes, [sizes[0] - 13, *sizes[1:]]


@pytest.fixture(scope="module")
def screen():
    """Of the first perturbation 5 cells are empty and 8 in a lane without control."""
    adata = tiny_screen(n_perturbations=5, n_cells_per_perturbation=20)
    adata.obs["lane"] = adata.obs["batch"].astype(str)
    adata.obs["time"] = np.where(np.arange(adata.n_obs) % 2, "early", "late")
    cells = np.flatnonzero(adata.obs["perturbation"] == min(set(adata.obs["perturbation"]) - {"control"}))
    adata.obs.iloc[cells[:8], adata.obs.columns.get_loc("lane")] = "lane9"
    counts = adata.X.toarray()
    counts[cells[8:13]] = 0
    adata.X = counts
    return adata


def test_cells_are_counted_before_and_after_training_and_without_cells(screen, tmp_path):
    model = fresh(screen.copy(), {"batch_key": "lane"})
    before = model.target_cells()
    n_cells, n_used = sizes_in(screen)
    assert list(before.columns) == ["target", "n_cells", "n_cells_used"]
    assert before["target"].tolist() == model.perturbation_names
    assert before["n_cells"].tolist() == n_cells
    assert before["n_cells_used"].tolist() == n_used
    briefly(model)
    model.save(tmp_path / "model")
    model.export_weights(tmp_path / "weights")
    loaded = DBDiffusion.load(tmp_path / "model", adata=False), DBDiffusion.load_weights(tmp_path / "weights")
    for one in (model, *loaded):
        assert one.target_cells().equals(before)
    asked = model.target_cells(["GENE55", f"{model.perturbation_names[0]}+ctrl"])
    assert asked.to_numpy().tolist() == [["GENE55", 0, 0], [model.perturbation_names[0], n_cells[0], n_used[0]]]


def test_of_models_of_before_it_is_known_what_was_used(screen):
    model = briefly(fresh(screen.copy(), {"batch_key": "lane"}))
    del model.screen_["n_cells"]
    model._cached_screen = None
    table = model.target_cells()
    assert table["n_cells"].isna().all()
    assert table["n_cells_used"].tolist() == sizes_in(screen)[1]


def test_contexts_are_counted_apart(screen):
    model = fresh(screen.copy(), {"batch_key": "lane", "context_key": "time"})
    before = model.target_cells()
    assert before["context"].tolist() == ["early"] * 5 + ["late"] * 5
    total = before.groupby("target")["n_cells_used"].sum()
    assert total.tolist() == sizes_in(screen)[1]
    assert briefly(model).target_cells().equals(before)


def test_a_query_counts_what_both_measured(screen):
    model = briefly(fresh(screen.copy(), {"batch_key": "lane"}))
    query = DBDiffusion.load_query_data(screen.copy(), model)
    assert query.target_cells().equals(model.target_cells())


def test_without_cells_and_without_training_there_is_nothing_to_count(screen, tmp_path):
    fresh(screen.copy()).save(tmp_path / "model")
    with pytest.raises(ValueError, match="loaded without"):
        DBDiffusion.load(tmp_path / "model", adata=False).target_cells()


@pytest.mark.parametrize("who", ["control", "a perturbation"])
def test_effects_are_those_without_the_cells_that_take_no_part(screen, who):
    adata = tiny_screen(n_perturbations=5, n_cells_per_perturbation=20)
    name = "control" if who == "control" else min(set(adata.obs["perturbation"]) - {"control"})
    empty = np.flatnonzero(adata.obs["perturbation"] == name)[::3]
    counts = adata.X.toarray()
    counts[empty] = 0
    spoilt = adata.copy()
    spoilt.X = counts
    rest = adata[np.setdiff1d(np.arange(adata.n_obs), empty)].copy()
    first, second = (fresh(one, {"batch_key": "batch"}) for one in (spoilt, rest))
    left, right = first.observed_effects(), second.observed_effects()
    np.testing.assert_allclose(left["effect"], right["effect"], atol=1e-12)
    np.testing.assert_allclose(left["se"], right["se"], atol=1e-12)
    one, other = (briefly(model)._screen() for model in (first, second))
    assert np.array_equal(one.library, other.library)
    np.testing.assert_allclose(one.vectors @ one.vectors.T, other.vectors @ other.vectors.T, atol=1e-5)
    null = [model.null_calibration(n_splits=3).p_values for model in (first, second)]
    np.testing.assert_allclose(*null, atol=1e-12)


def test_the_diffusion_does_not_train_on_cells_without_counts(screen, monkeypatch):
    model = fresh(screen.copy(), {"batch_key": "lane"})
    seen = []
    import dbdiffusion.model._stages as stages

    original = stages.LatentDataModule
    monkeypatch.setattr(
        stages, "LatentDataModule", lambda latents, train, *rest: seen.append(train) or original(latents, train, *rest)
    )
    briefly(model)
    empty = np.flatnonzero(model.adata.X.sum(axis=1) == 0)
    assert len(empty) == 5
    assert not set(empty) & set(seen[0])
    assert set(seen[0]) == set(model.train_indices) - set(empty)
