import numpy as np
import pytest
from scipy import stats

from dbdiffusion.metrics import effect_scores

P, G = 7, 130


@pytest.fixture
def effects():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(G)
    reference = shared + rng.standard_normal((P, G))
    return {
        "predicted": reference + 0.5 * rng.standard_normal((P, G)),
        "reference": reference,
        "mean_effect": shared,
        "significant": np.abs(reference) > 1,
    }


def test_scores_are_their_formulas(effects):
    scores = effect_scores(**effects)
    predicted, reference, shared = effects["predicted"], effects["reference"], effects["mean_effect"]
    for i in range(P):
        for suffix, genes in (("", np.arange(G)), *((f"_top{n}", np.argsort(-np.abs(reference[i]))[:n]) for n in (20, 100))):
            x, y, m = predicted[i, genes], reference[i, genes], shared[genes]
            np.testing.assert_allclose(scores["mse" + suffix][i], np.mean((x - y) ** 2))
            np.testing.assert_allclose(scores["pearson" + suffix][i], stats.pearsonr(x, y).statistic)
            np.testing.assert_allclose(scores["pearson_mean" + suffix][i], stats.pearsonr(x - m, y - m).statistic)


def test_the_mean_baseline_scores_well_against_control_and_nothing_against_the_mean(effects):
    effects["predicted"] = np.tile(effects["mean_effect"], (P, 1))
    scores = effect_scores(**effects)
    assert np.median(scores["pearson"]) > 0.5
    assert np.isnan(scores["pearson_mean"]).all()


def test_a_common_shift_of_all_effects_changes_correlation_against_control_only(effects):
    shift = 5 * np.random.default_rng(1).standard_normal(G)
    before = effect_scores(**effects)
    moved = {name: effects[name] + shift for name in ("predicted", "reference", "mean_effect")}
    after = effect_scores(**moved, significant=effects["significant"])
    np.testing.assert_allclose(after["mse"], before["mse"])
    np.testing.assert_allclose(after["pearson_mean"], before["pearson_mean"])
    assert (after["pearson"] > before["pearson"]).all()


def test_a_perturbation_is_not_scored_on_its_own_gene(effects):
    own = np.zeros((P, G), dtype=bool)
    own[np.arange(P), np.arange(P)] = True
    before = effect_scores(**effects, own=own)
    effects["predicted"][own] = 1e3
    effects["reference"][own] = -1e3
    after = effect_scores(**effects, own=own)
    for name, values in before.items():
        np.testing.assert_allclose(after[name], values, err_msg=name)


def test_scores_agree_with_cell_eval(effects):
    pytest.importorskip("cell_eval", reason="cell-eval is not installed; its formulas are checked against scipy above")
    import anndata as ad
    from cell_eval._types import PerturbationAnndataPair
    from cell_eval.metrics import discrimination_score, mse_delta, pearson_delta

    names = [f"P{i}" for i in range(P)]
    control = np.random.default_rng(2).uniform(3, 4, G)
    pair = {
        side: ad.AnnData(
            np.vstack([control, control + effects[name]]),
            obs={"perturbation": ["control", *names]},
            var={"gene": [f"G{g}" for g in range(G)]},
        )
        for side, name in (("real", "reference"), ("pred", "predicted"))
    }
    data = PerturbationAnndataPair(**pair, pert_col="perturbation", control_pert="control")
    scores = effect_scores(**effects)
    in_order = lambda values: np.array([values[name] for name in names])  # noqa: E731
    np.testing.assert_allclose(in_order(mse_delta(data)), scores["mse"], rtol=1e-6)
    np.testing.assert_allclose(in_order(pearson_delta(data)), scores["pearson"], rtol=1e-6)
    rank = (1 - in_order(discrimination_score(data, metric="cosine"))) * P  # theirs is 1 - rank / P, ours 1 - rank / (P - 1)
    np.testing.assert_allclose(1 - rank / (P - 1), scores["discrimination"], atol=1e-6)
