import numpy as np
import pandas as pd
import pytest
from tiny import tiny_model, tiny_screen, train_quickly

from dbdiffusion import DBDiffusion


@pytest.fixture(scope="module")
def with_vectors():
    adata = tiny_screen()
    effects = adata.uns["true_effects"]
    left, singular, _ = np.linalg.svd(effects.to_numpy(), full_matrices=False)
    vectors = np.vstack([left[:, :4] * singular[:4], np.random.default_rng(0).standard_normal(4)])
    adata.uns["vectors"] = pd.DataFrame(vectors, index=[*effects.index, "outsider"])  # that tell what there is to know
    DBDiffusion.setup_anndata(adata, embedding_key="vectors")
    return train_quickly(tiny_model(adata), 2, 2)


def test_embeddings_are_named(trained):
    table = trained.perturbation_embeddings()
    assert list(table.index) == ["control", *trained.perturbation_names]
    assert table.shape[1] == 6


def test_scores_rank_the_strategies(trained):
    scores = trained.embedding_scores()
    assert set(scores.index) == {"cluster", "knn", "ridge", "mean"}
    assert scores["relative_to_mean"].is_monotonic_increasing
    assert scores.loc["mean", "relative_to_mean"] == 1


def test_a_target_outside_the_genes_is_placed_by_the_users_vectors(with_vectors):
    assert with_vectors.strategy_of("outsider") in ("table", "table_knn")
    assert with_vectors.generate("outsider", n_cells=4).n_obs == 4
    assert {"table", "table_knn"} <= set(with_vectors.embedding_scores().index)


def test_vectors_can_be_added_later(with_vectors):
    vectors = pd.DataFrame(np.ones((1, 4)), index=["newcomer"])
    with_vectors.add_perturbations(["newcomer"], vectors)
    assert with_vectors.strategy_of("newcomer") in ("table", "table_knn")
    assert with_vectors.strategy_of("outsider") in ("table", "table_knn")
    with pytest.raises(ValueError, match="4 columns"):
        with_vectors.add_perturbations(["third"], pd.DataFrame(np.ones((1, 3)), index=["third"]))


def test_strategy_is_checked_and_forgets_the_folds(with_vectors):
    with pytest.raises(ValueError, match="strategy"):
        with_vectors.set_strategy("best")
    with_vectors.set_strategy("mean")
    assert with_vectors.cross_fit_ is None
    assert with_vectors.strategy_of("outsider") == "mean"
    with_vectors.set_strategy("auto")


def test_baselines(trained, unseen):
    baselines = trained.baseline_effects(unseen[0])
    observed = trained._screen().observed.effect
    assert np.allclose(baselines["mean"], observed.mean(0))
    assert not baselines["zero"].any()
    assert not np.allclose(baselines["ridge"], baselines["mean"], atol=1e-6)
