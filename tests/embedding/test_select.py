import numpy as np
import pandas as pd
import pytest
from tiny import observed_effects

from dbdiffusion.embedding import GeneSpace, left_out_error
from dbdiffusion.embedding import _select as module

G, R, K, E = 60, 3, 31, 5
GENES = np.array([f"GENE{i:03d}" for i in range(200)])


def screen(*, aligned, k=K, g=G, seed=0):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((g, R))
    source = vectors if aligned else rng.standard_normal((g, R))
    effect = source[:k] @ rng.standard_normal((R, g)) + 0.3 * rng.standard_normal((k, g))
    return list(GENES[:k]), effect, GeneSpace(pd.Index(GENES[:g]), vectors)


def mean_of_others_error(effect, folds):
    errors = []
    for i, row in enumerate(effect):
        predicted = effect[folds != folds[i]].mean(axis=0)
        errors.append(np.delete(row - predicted, i) @ np.delete(row - predicted, i) / (effect.shape[1] - 1))
    return np.mean(errors)


def test_an_aligned_gene_space_beats_the_mean():
    names, effect, genes = screen(aligned=True)
    scores = left_out_error(names, observed_effects(effect), genes, E)
    assert scores.index[0] in ("ridge", "knn")
    assert scores.loc["ridge", "relative_to_mean"] < 0.3
    assert scores.loc["knn", "relative_to_mean"] < 0.8
    assert scores["relative_to_mean"].is_monotonic_increasing


def test_in_a_random_gene_space_nothing_beats_the_mean_by_much():
    for seed in range(3):
        names, effect, genes = screen(aligned=False, seed=seed)
        scores = left_out_error(names, observed_effects(effect), genes, E)
        assert scores["relative_to_mean"].min() > 0.85


@pytest.mark.parametrize("max_folds", [80, 12])
def test_error_of_the_mean_is_that_of_the_mean_of_the_others(monkeypatch, max_folds):
    monkeypatch.setattr(module, "MAX_GROUPS", max_folds)
    names, effect, genes = screen(aligned=True)
    scores = left_out_error(names, observed_effects(effect), genes, 2)
    np.testing.assert_allclose(scores.loc["mean", "mse"], mean_of_others_error(effect, np.arange(K) % max_folds))
    assert scores.loc["mean", "relative_to_mean"] == 1
    assert (scores["n"] == K).all()


def test_the_perturbed_genes_own_effect_is_left_out():
    names, effect, genes = screen(aligned=True)
    plain = left_out_error(names, observed_effects(effect), genes, E)
    effect[np.arange(K), np.arange(K)] -= 5.0
    hit = left_out_error(names, observed_effects(effect), genes, E)
    own_gene_share = 25 / G
    assert hit.loc["mean", "mse"] - plain.loc["mean", "mse"] < 0.3 * own_gene_share


def test_only_what_a_strategy_can_place_is_scored():
    names, effect, genes = screen(aligned=True)
    names[3], names[5] = "DRUG", "OTHER DRUG"
    scores = left_out_error(names, observed_effects(effect), genes, E)
    assert scores.loc["ridge", "n"] == K - 2
    assert scores.loc["mean", "n"] == K


def test_combinations_are_not_scored():
    names, effect, genes = screen(aligned=True)
    names[3], names[5] = f"{GENES[0]}+{GENES[1]}", f"{GENES[0]}_{GENES[2]}"
    assert (left_out_error(names, observed_effects(effect), genes, E).loc["ridge", "n"]) == K - 2
    assert (left_out_error(names, observed_effects(effect), genes, E, separator="_").loc["mean", "n"]) == K - 1


def test_a_table_of_ones_own_competes_on_what_it_covers():
    names, effect, genes = screen(aligned=False)
    rng = np.random.default_rng(5)
    left, singular, _ = np.linalg.svd(effect, full_matrices=False)
    table = pd.DataFrame(left[:20, :3] * singular[:3], index=names[:20])
    scores = left_out_error(names, observed_effects(effect), genes, E, table)
    assert scores.index[0] == "table"
    assert scores.loc["table", "n"] == 20
    assert scores.loc["table", "relative_to_mean"] < 0.5
    useless = pd.DataFrame(rng.standard_normal((K, 3)), index=names)
    assert left_out_error(names, observed_effects(effect), genes, E, useless).loc["table", "relative_to_mean"] > 0.85


def test_too_few_perturbations_give_an_empty_table():
    names, effect, genes = screen(aligned=True)
    scores = left_out_error(names[:2], observed_effects(effect[:2]), genes, E)
    assert scores.empty
    assert list(scores.columns) == ["mse", "relative_to_mean", "n"]


def test_three_perturbations_are_scored():
    names, effect, genes = screen(aligned=True)
    scores = left_out_error(names[:3], observed_effects(effect[:3]), genes, E)
    assert set(scores.index) == {"cluster", "knn", "mean", "ridge"}
    assert np.isfinite(scores["mse"]).all()
