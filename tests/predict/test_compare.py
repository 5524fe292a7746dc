"""Laws of comparisons: the truth is right, noise is allowed for, and what does not fit is refused in words."""

import numpy as np
import pandas as pd
import pytest

from dbdiffusion import compare

T, G = 9, 53
NAMES = [f"KO{i}" for i in range(T)]
GENES = [*(f"g{i}" for i in range(G - 1)), "KO3"]
SE, NOISE = 0.3, 0.2


def tidy(effect, **columns):
    table = pd.DataFrame({"target": np.repeat(NAMES, G), "variable": np.tile(GENES, T), "effect": effect.ravel()})
    return table.assign(**columns)


def prediction(rng, error=SE):
    truth = rng.standard_normal((T, G))
    effect = truth + error * rng.standard_normal((T, G))
    q = np.where(np.abs(effect) > 1, 0.05, 0.5).ravel()
    table = tidy(effect, se=SE, df=1e6, adj_p_value=q)
    return truth, table.assign(ci_low=table["effect"] - 1.96 * SE, ci_high=table["effect"] + 1.96 * SE)


def test_honest_intervals_hold_what_they_say_whatever_the_noise():
    rng = np.random.default_rng(0)
    for noise in (0.0, NOISE, 1.0):
        held = []
        for _ in range(20):
            truth, table = prediction(rng)
            observed = tidy(truth + noise * rng.standard_normal(truth.shape), se=noise)
            held.append(compare(table, observed).table["coverage"].mean())
        assert np.mean(held) == pytest.approx(0.95, abs=0.01)


def test_what_the_prediction_s_table_says_was_observed_does_not_count():
    truth, table = prediction(np.random.default_rng(2))
    observed = tidy(truth, se=NOISE)
    plain, with_columns = (compare(one, observed) for one in (table, table.assign(observed=9.0, observed_se=9.0)))
    pd.testing.assert_frame_equal(plain.genes, with_columns.genes)


def test_ratios_are_of_errors_without_the_noise():
    rng = np.random.default_rng(1)
    ratios = []
    for _ in range(30):
        truth, table = prediction(rng)
        observed = tidy(truth + NOISE * rng.standard_normal(truth.shape), se=NOISE)
        mean = pd.Series(0.5, index=GENES)
        ratios.append(compare(table, observed, mean).table[["relative_to_zero", "relative_to_mean"]].mean())
    zero, of_mean = np.mean(ratios, axis=0)
    assert zero == pytest.approx(SE**2, rel=0.05)
    assert of_mean == pytest.approx(SE**2 / 1.25, rel=0.06)


def test_a_control_that_is_shared_is_taken_into_account():
    rng = np.random.default_rng(2)
    held, ratios, naive = [], [], []
    for _ in range(60):
        truth = rng.standard_normal((T, G))
        error = 0.4 * rng.standard_normal(G)
        effect = truth + SE * rng.standard_normal((T, G)) - error
        table = tidy(effect, se=np.sqrt(SE**2 + 0.16), df=1e6)
        observed = tidy(truth + NOISE * rng.standard_normal(truth.shape) - error, se=np.sqrt(NOISE**2 + 0.16))
        known = compare(table, observed, shared_control=pd.Series(0.16, index=GENES))
        held.append(known.table["coverage"].mean())
        ratios.append(known.table["relative_to_zero"].mean())
        naive.append(compare(table, observed).table["relative_to_zero"].mean())
    assert np.mean(held) == pytest.approx(0.95, abs=0.01)
    assert np.mean(ratios) == pytest.approx(SE**2 + 0.16, rel=0.1)
    assert np.mean(naive) < SE**2 - 0.1
    assert "share control cells" in known.verdict


def test_lists_and_signs_are_counted_by_hand():
    rng = np.random.default_rng(3)
    truth, table = prediction(rng, error=1.5)
    comparison = compare(table, tidy(truth, se=0.0))
    one = table[(table["target"] == "KO2")]
    listed = one["adj_p_value"].to_numpy() <= 0.1
    wrong = (np.sign(one["effect"].to_numpy()) != np.sign(truth[2]))[listed].mean()
    row = comparison.table.set_index("target").loc["KO2"]
    assert row["n_listed"] == listed.sum()
    assert row["list_wrong"] == pytest.approx(2 * wrong)
    largest = np.argsort(-np.abs(one["effect"].to_numpy()))[:50]
    assert row["right_signs"] == pytest.approx((np.sign(one["effect"].to_numpy()) == np.sign(truth[2]))[largest].mean())


def test_own_genes_do_not_count_and_orders_do_not_matter():
    rng = np.random.default_rng(4)
    truth, table = prediction(rng)
    observed = tidy(truth, se=0.1)
    comparison = compare(table, observed)
    assert comparison.table["n_genes"].tolist() == [G - (name == "KO3") for name in NAMES]
    again = compare(table, observed.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(again.table, comparison.table)
    wide = pd.DataFrame(truth, NAMES, GENES)
    pd.testing.assert_frame_equal(compare(table, wide.iloc[::-1]).table, compare(table, tidy(truth, se=0.0)).table)


def test_verdicts_say_better_and_worse():
    rng = np.random.default_rng(5)
    truth, table = prediction(rng)
    observed, mean = tidy(truth, se=0.0), pd.Series(0.0, index=GENES)
    good = compare(table, observed, mean)
    assert "better than it" in good.verdict
    assert "no better" not in good.verdict
    bad = compare(table.assign(effect=-table["effect"]), observed, mean)
    assert "worse than it" in bad.verdict
    assert "tell little" in compare(table[table["target"] == "KO1"], observed).verdict


def test_parts_may_stand_in_any_order_and_contexts_are_kept_apart():
    rng = np.random.default_rng(6)
    truth, table = prediction(rng)
    both = [
        frame.assign(target=frame["target"].replace({"KO0": name}))
        for frame, name in ((table, "A+B"), (tidy(truth, se=0.0), "B+A"))
    ]
    assert compare(*both).table["target"].tolist()[0] == "A+B"
    twice = [pd.concat([frame.assign(context=c) for c in ("d1", "d2")]) for frame in (table, tidy(truth, se=0.0))]
    assert len(compare(*twice).table) == 2 * T


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"predicted": [1]}, TypeError, "got list"),
        ({"predicted": lambda t, o: t.drop(columns="effect")}, KeyError, r"\['effect'\] are missing"),
        ({"predicted": lambda t, o: pd.concat([t, t])}, ValueError, "twice"),
        (
            {"observed": lambda t, o: o.assign(target=o["target"].str.replace("KO", "K0"))},
            KeyError,
            "None of the predicted targets",
        ),
        ({"observed": lambda t, o: o.assign(variable=o["variable"] + "x")}, ValueError, "no gene in common"),
        ({"mean": [1.0]}, TypeError, "`mean` must be a Series"),
        ({"mean": pd.Series(1.0, index=GENES[1:])}, ValueError, r"`mean` must have one value for every gene; \['g0'\]"),
        ({"batch_key": "b"}, ValueError, r"\['batch_key'\] belong to an AnnData"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(change, error, words):
    truth, table = prediction(np.random.default_rng(7))
    options = {"predicted": table, "observed": tidy(truth, se=0.0)}
    options |= {name: value(table, options["observed"]) if callable(value) else value for name, value in change.items()}
    with pytest.raises(error, match=words):
        compare(**options)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.99])
def test_coverage_is_counted_at_the_confidence_of_the_table(confidence):
    truth, table = prediction(np.random.default_rng(7))
    table.attrs["confidence"] = confidence
    comparison = compare(table, tidy(truth, se=0.0))
    assert comparison.table["coverage"].mean() == pytest.approx(confidence, abs=0.06)
    assert f"Intervals of {100 * confidence:g} %" in comparison.verdict


def test_several_rows_that_answer_to_one_are_refused():
    truth, table = prediction(np.random.default_rng(8))
    observed = tidy(truth, se=NOISE)
    of_contexts = pd.concat([observed.assign(context=name) for name in ("early", "late")])
    with pytest.raises(ValueError, match=r"in the contexts .*early.*Take one"):
        compare(table, of_contexts)
    twice = pd.concat([observed, observed.assign(target=observed["target"] + "+control")])
    with pytest.raises(ValueError, match=r"as .*KO0.*KO0.control.*Keep one"):
        compare(table, twice)


def test_a_gene_may_hold_the_separator():
    """It is one perturbation, whose own gene does not count."""
    genes = ["HLA-A", "g1", "g2", "g3"]
    table = pd.DataFrame({"target": "HLA-A", "variable": genes, "effect": [9.0, 1.0, -1.0, 0.5], "se": 0.1, "df": 9.0})
    table = table.assign(ci_low=table["effect"] - 0.2, ci_high=table["effect"] + 0.2)
    observed = table[["target", "variable", "effect"]].assign(effect=[-9.0, 1.0, -1.0, 0.5], se=0.0)
    comparison = compare(table, observed, separator="-")
    assert comparison.genes["variable"].tolist() == genes[1:]


def test_of_several_contexts_each_has_its_own_weight_of_the_control():
    from dbdiffusion.predict._compare import _control_weight

    table = pd.DataFrame({"context": ["late", "late"]})
    table.attrs = {
        "context": ["early", "late"],
        "rectifier_means": {"early": {"single": {"control_weight": 0.9}}, "late": {"single": {"control_weight": 0.1}}},
    }
    assert _control_weight(table) == 0.1
