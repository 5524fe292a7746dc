"""Laws of rectified tables: order does not matter, intervals hold, the numbers are those of the rectifier."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import dbdiffusion
from dbdiffusion import rectify
from dbdiffusion.inference import References, fit_rectifier
from dbdiffusion.screen import ControlHalves

K, T, G = 26, 5, 37
NAMES = [f"KO{i:02d}" for i in range(K + T)]
GENES = [f"g{i}" for i in range(G - 2)] + ["KO00", "KO30"]
SE = 0.2


def screen(seed=0, error=0.5):
    rng = np.random.default_rng(seed)
    truth = pd.DataFrame(rng.standard_normal((K + T, G)), NAMES, GENES)
    observed = truth[:K] + SE * rng.standard_normal((K, G))
    return truth, observed, truth + error * rng.standard_normal(truth.shape), 0 * observed + SE


def test_the_numbers_are_those_of_the_rectifier():
    _, observed, predicted, se = screen()
    other = predicted * 0.3
    control = pd.Series(0.05, index=GENES)
    table = rectify(observed, {"first": predicted, "second": other}, se=se, control_se=control, control_norm_cv=0.4)
    own = tuple(np.flatnonzero(np.array(GENES) == name) for name in NAMES[:K])
    by_name = {"first": predicted[:K].to_numpy(), "second": other[:K].to_numpy()}
    references = References(observed.to_numpy(), se.to_numpy() ** 2, control.to_numpy() ** 2, by_name, own, control_norm_cv=0.4)
    references = references.corrected()
    rectifier = fit_rectifier(references)
    of_targets = {"first": predicted[K:].to_numpy(), "second": other[K:].to_numpy()}
    estimate = rectifier.estimate(references.of_targets(of_targets))
    assert np.allclose(table["effect"], estimate.effect.ravel())
    assert np.allclose(table["se"], estimate.se.ravel())
    assert np.allclose(table["p_value"], estimate.p_value().ravel(), rtol=1e-6)
    assert table.attrs["weights"]["single"] == pytest.approx(rectifier.weights)
    assert table["target"].unique().tolist() == NAMES[K:]


@pytest.mark.parametrize("seed", [0, 1])
def test_the_last_digits_of_what_is_given_decide_nothing(seed):
    """Laws are found by searches: one that stops early gives another answer on another processor."""
    _, observed, predicted, se = screen(seed, error=0.8)
    rng = np.random.default_rng(seed)

    def nearly(table):
        return table * (1 + 1e-12 * rng.standard_normal(table.shape))

    table = rectify(observed, predicted, se=se)
    again = rectify(nearly(observed), nearly(predicted), se=nearly(se))
    numbers = table.select_dtypes("number").columns
    np.testing.assert_allclose(again[numbers], table[numbers], rtol=1e-7, atol=1e-9)


def test_orders_of_rows_genes_and_further_ones_do_not_matter():
    _, observed, predicted, se = screen()
    rng = np.random.default_rng(1)
    table = rectify(observed, predicted, se=se)
    rows, genes = rng.permutation(K + T), rng.permutation(G)
    shuffled = predicted.iloc[rows, genes].assign(another=1.0)
    again = rectify(observed, shuffled, NAMES[K:], se=se.iloc[::-1])
    pd.testing.assert_frame_equal(again, table)


def test_intervals_hold_the_truth_and_a_predictor_that_knows_gets_the_weight():
    inside, weights, errors = [], [], []
    for seed in range(12):
        truth, observed, predicted, se = screen(seed, error=0.4)
        noise = pd.DataFrame(np.random.default_rng(seed + 100).standard_normal(predicted.shape), NAMES, GENES)
        table = rectify(observed, {"good": predicted, "noise": noise}, se=se)
        target = truth[K:].to_numpy().ravel()
        inside.append(((table["ci_low"] < target) & (target < table["ci_high"])).mean())
        weights.append(table.attrs["weights"]["single"])
        errors.append([((values - target) ** 2).mean() for values in (table["effect"], predicted[K:].to_numpy().ravel())])
    assert 0.92 < np.mean(inside) < 0.98
    assert np.mean([w["good"] for w in weights]) > 0.7
    assert np.mean([w["noise"] for w in weights]) < 0.05
    assert np.mean(errors, axis=0)[0] < np.mean(errors, axis=0)[1]


def test_noise_alone_changes_no_figure():
    errors = []
    for seed in range(12):
        truth, observed, predicted, se = screen(seed)
        noise = pd.DataFrame(np.random.default_rng(seed + 50).standard_normal(predicted.shape), NAMES, GENES)
        target = truth[K:].to_numpy().ravel()
        tables = rectify(observed, predicted, se=se), rectify(observed, {"good": predicted, "noise": noise}, se=se)
        errors.append([((table["effect"] - target) ** 2).mean() for table in tables])
    without, with_it = np.mean(errors, axis=0)
    assert with_it == pytest.approx(without, rel=0.01)


def test_lists_hold_what_they_say_and_need_halves_where_control_has_an_error():
    truth, observed, predicted, se = screen(error=0.3)
    table = rectify(observed, predicted, se=se)
    listed = table["adj_p_value"] <= 0.1
    wrong = np.sign(table["effect"]) * truth[K:].to_numpy().ravel() <= 0
    assert listed.sum() > 20
    assert wrong[listed].mean() <= 0.1
    assert set(table["error_rate"]) == {"fsp"}
    control = pd.Series(0.05, index=GENES)
    assert rectify(observed, predicted, se=se, control_se=control)["adj_p_value"].isna().all()
    first = 0.05 * np.random.default_rng(0).standard_normal((6, 1, G))
    halves = ControlHalves(first, -first, np.ones((K, 1)))
    assert (rectify(observed, predicted, se=se, control_se=control, halves=halves)["adj_p_value"] <= 0.1).sum() > 10


def test_combinations_have_references_of_their_own_kind():
    rng = np.random.default_rng(3)
    _, observed, predicted, se = screen()
    pairs = [f"{a}+{b}" for a, b in zip(NAMES[:7], NAMES[7:14], strict=True)]
    rows = pd.DataFrame(rng.standard_normal((7, G)), pairs, GENES)
    both = [pd.concat([observed, rows[:6]]), pd.concat([predicted, rows + rng.standard_normal(rows.shape)])]
    table = rectify(*both, ["KO26", "KO13+KO06"], se=pd.concat([se, 0 * rows[:6] + SE]))
    assert table.groupby("target", sort=False)["n_reference"].first().to_dict() == {"KO26": K, "KO13+KO06": 6}
    alone = rectify(observed, predicted, "KO26", se=se)
    assert np.allclose(table[table["target"] == "KO26"]["effect"], alone["effect"])


def test_predictions_made_with_the_references_are_refused():
    _, observed, predicted, se = screen()
    seen = predicted.copy()
    seen[:K] = observed
    with pytest.raises(ValueError, match=r"'cheat'.*without its cells"):
        rectify(observed, {"honest": predicted, "cheat": seen}, se=se)


def test_two_references_give_effects_without_intervals_and_say_so():
    _, observed, predicted, se = screen()
    with pytest.warns(UserWarning, match="Only 2 measured perturbations"):
        table = rectify(observed[:2], predicted, "KO30", se=se[:2])
    assert table["effect"].notna().all()
    assert table["ci_low"].isna().all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"targets": "KO03"}, ValueError, "'KO03' is measured"),
        ({"targets": "KO3O"}, KeyError, "no row in the predictions of 'predicted'. Did you mean 'KO30'"),
        ({"targets": 3}, ValueError, "got 3"),
        ({"predictions": {}}, ValueError, "holds no table"),
        ({"predictions": lambda p: p[K:]}, ValueError, "None of the 26 measured"),
        ({"predictions": lambda p: p[:K]}, ValueError, "no perturbation that was not measured"),
        ({"predictions": lambda p: p.drop(columns="g3")}, KeyError, "lacks 1 of the 37 genes"),
        ({"se": lambda p: p[:K]}, ValueError, "`se` must not be negative"),
        ({"se": lambda p: p[3:K].abs()}, KeyError, "`se` lacks 3 of the rows"),
        ({"control_se": [1.0]}, TypeError, "must be a Series by gene, got list"),
        ({"control_se": pd.Series(-1.0, index=GENES)}, ValueError, "`control_se` must not be negative"),
        ({"control_se": pd.Series(1.0, index=GENES[1:])}, KeyError, "`control_se` lacks 1"),
        ({"confidence": 1.0}, ValueError, "strictly between 0 and 1"),
        ({"coherence": np.ones(K)}, ValueError, "leave it out"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_words(change, error, words):
    _, observed, predicted, se = screen()
    options = {"observed": observed, "predictions": predicted, "se": se}
    options |= {name: value(predicted) if callable(value) else value for name, value in change.items()}
    with pytest.raises(error, match=words):
        rectify(**options)


def test_no_network_room_is_behind_it():
    module = dbdiffusion.predict._rectify
    rooms = {value.__module__.split(".")[1] for value in vars(module).values() if hasattr(value, "__module__")
             and str(value.__module__).startswith("dbdiffusion.")}  # fmt: skip
    assert rooms == {"predict", "inference", "screen", "_words"}


def test_a_gene_may_hold_the_separator():
    """So a perturbation of it is a single one, whose own gene is its own."""
    _, observed, predicted, se = screen()
    renamed = {"KO00": "KO-00", "KO30": "KO-30"}
    tables = [table.rename(renamed).rename(columns=renamed) for table in (observed, predicted, se)]
    plain, other = rectify(observed, predicted, se=se), rectify(tables[0], tables[1], se=tables[2], separator="-")
    np.testing.assert_allclose(other["effect"], plain["effect"])
    np.testing.assert_allclose(other["adj_p_value"], plain["adj_p_value"])
    of_anndata = rectify(AnnData(tables[0]), tables[1], se=tables[2], separator="-")
    np.testing.assert_allclose(of_anndata["effect"], plain["effect"], rtol=1e-5)
