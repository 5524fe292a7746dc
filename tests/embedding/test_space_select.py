import numpy as np
import pandas as pd
import pytest
from tiny import observed_effects, screen_of_effects

from dbdiffusion.embedding import LeftOutSpaces, fit_space, one_gene_space, score_strategies
from dbdiffusion.embedding import _space as module
from dbdiffusion.screen import GeneSpace

G, R, K, E = 60, 3, 31, 5
GENES = np.array([f"GENE{i:03d}" for i in range(200)])


def simulated(*, aligned, k=K, g=G, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((g, R))
    source = vectors if aligned else rng.standard_normal((g, R))
    effect = source[:k] @ rng.standard_normal((R, g)) + 0.3 * rng.standard_normal((k, g))
    return list(GENES[:k]), effect, GeneSpace(pd.Index(GENES[:g]), vectors)


def scores_of(names, effect, genes, n_embedding, table=None, separator="+"):
    """Scores on folds of perturbations; gene space is given and the same for all of them."""
    screen = screen_of_effects(names, effect, genes, separator)
    folds = one_gene_space(names, screen.observed, genes.vectors)
    return LeftOutSpaces(screen, n_embedding, folds, table).scores()


def mean_of_others_error(effect, folds):
    errors = []
    for i, row in enumerate(effect):
        predicted = effect[folds != folds[i]].mean(axis=0)
        errors.append(np.delete(row - predicted, i) @ np.delete(row - predicted, i) / (effect.shape[1] - 1))
    return np.mean(errors)


def test_an_aligned_gene_space_beats_the_mean():
    scores = scores_of(*simulated(aligned=True), E)
    assert scores.index[0] in ("ridge", "knn")
    assert scores.loc["ridge", "relative_to_mean"] < 0.3
    assert scores.loc["knn", "relative_to_mean"] < 0.8
    assert scores["relative_to_mean"].is_monotonic_increasing


def test_in_a_random_gene_space_nothing_beats_the_mean():
    for seed in range(3):
        scores = scores_of(*simulated(aligned=False, seed=seed), E)
        assert (scores["relative_to_mean"] >= 1 - 2 * scores["se"]).all()


@pytest.mark.parametrize("max_folds", [80, 12])
def test_error_of_the_mean_is_that_of_the_mean_of_the_others(monkeypatch, max_folds):
    monkeypatch.setattr(module, "MAX_GROUPS", max_folds)
    names, effect, genes = simulated(aligned=True)
    scores = scores_of(names, effect, genes, 2)
    np.testing.assert_allclose(scores.loc["mean", "mse"], mean_of_others_error(effect, np.arange(K) % max_folds))
    assert scores.loc["mean", "relative_to_mean"] == 1
    assert (scores["n"] == K).all()


def test_the_standard_error_is_that_of_screens_drawn_anew_from_its_perturbations():
    names, effect, genes = simulated(aligned=True, k=50)
    space = fit_space(names, observed_effects(effect), genes, E, ("ridge",))
    placed = [(space.leave_out(name), [name]) for name in names]
    of_names = dict(zip(names, effect, strict=True))
    scores = score_strategies(placed, of_names, has_table=False)
    alone = {strategy: [] for strategy in ("ridge", "mean")}
    for one in placed:
        single = score_strategies([one], of_names, has_table=False)["mse"]
        for strategy, errors in alone.items():
            errors.append(single[strategy])
    ridge, mean = (np.array(alone[strategy]) for strategy in ("ridge", "mean"))
    np.testing.assert_allclose(scores.loc["ridge", "relative_to_mean"], ridge.sum() / mean.sum())
    drawn = np.random.default_rng(0).integers(0, 50, (4000, 50))
    np.testing.assert_allclose(scores.loc["ridge", "se"], (ridge[drawn].sum(1) / mean[drawn].sum(1)).std(), rtol=0.1)
    assert scores.loc["mean", "se"] == 0


def test_the_perturbed_genes_own_effect_is_left_out():
    names, effect, genes = simulated(aligned=True)
    plain = scores_of(names, effect, genes, E)
    effect[np.arange(K), np.arange(K)] -= 5.0
    hit = scores_of(names, effect, genes, E)
    own_gene_share = 25 / G
    assert hit.loc["mean", "mse"] - plain.loc["mean", "mse"] < 0.3 * own_gene_share


def test_only_what_a_strategy_can_place_is_scored():
    names, effect, genes = simulated(aligned=True)
    names[3], names[5] = "DRUG", "OTHER DRUG"
    scores = scores_of(names, effect, genes, E)
    assert scores.loc["ridge", "n"] == K - 2
    assert scores.loc["mean", "n"] == K


def test_combinations_are_not_scored():
    names, effect, genes = simulated(aligned=True)
    names[3], names[5] = f"{GENES[0]}+{GENES[1]}", f"{GENES[0]}_{GENES[2]}"
    assert scores_of(names, effect, genes, E).loc["ridge", "n"] == K - 2
    assert scores_of(names, effect, genes, E, separator="_").loc["mean", "n"] == K - 1


def test_a_table_of_ones_own_competes_on_what_it_covers():
    names, effect, genes = simulated(aligned=False)
    rng = np.random.default_rng(5)
    left, singular, _ = np.linalg.svd(effect, full_matrices=False)
    table = pd.DataFrame(left[:20, :3] * singular[:3], index=names[:20])
    scores = scores_of(names, effect, genes, E, table)
    assert scores.index[0] == "table"
    assert scores.loc["table", "n"] == 20
    assert scores.loc["table", "relative_to_mean"] < 0.5
    useless = scores_of(names, effect, genes, E, pd.DataFrame(rng.standard_normal((K, 3)), index=names))
    assert {"table", "table_knn"} <= set(useless.index)
    assert (useless["relative_to_mean"] >= 1 - 2 * useless["se"]).all()


def test_too_few_perturbations_give_an_empty_table():
    names, effect, genes = simulated(aligned=True)
    scores = scores_of(names[:2], effect[:2], genes, E)
    assert scores.empty
    assert list(scores.columns) == ["mse", "relative_to_mean", "se", "n"]


def test_three_perturbations_are_scored():
    names, effect, genes = simulated(aligned=True)
    scores = scores_of(names[:3], effect[:3], genes, E)
    assert set(scores.index) == {"cluster", "knn", "mean", "ridge"}
    assert np.isfinite(scores["mse"]).all()
