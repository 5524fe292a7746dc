"""Tables of the first genes of every target."""

import numpy as np
import pandas as pd
from scipy import stats

from dbdiffusion.job._answers import N_GENES, gene_lists
from dbdiffusion.job._report import _of_genes

G = 37


def table_of(target="A+B", seed=0, **changes):
    effect = np.random.default_rng(seed).standard_normal(G)
    columns = {
        "target": target,
        "variable": ["A", "B", *(f"G{i:02d}" for i in range(G - 2))],
        "effect": effect,
        "se": 0.2,
        "df": 7.0,
        "ci_low": effect - 0.5,
        "ci_high": effect + 0.5,
        "lfsr": 0.1,
        "adj_p_value": np.where(np.abs(effect) > 1, 0.05, 0.5),
    }
    return pd.DataFrame({**columns, **changes})


def test_the_largest_effects_come_first_and_own_genes_stand_apart():
    table = table_of(effect=np.r_[9.0, -9.0, np.random.default_rng(1).standard_normal(G - 2)])
    (one,) = gene_lists(table, {"A+B": ("A", "B")})
    assert one.own["gene"].tolist() == ["A", "B"]
    assert len(one.genes) == N_GENES
    assert not {"A", "B"} & set(one.genes["gene"])
    assert (np.diff(one.genes["effect"].abs()) <= 0).all()


def test_the_inner_interval_is_that_of_eighty_per_cent():
    (one,) = gene_lists(table_of(), {})
    width = one.genes["high_80"] - one.genes["low_80"]
    np.testing.assert_allclose(width, 2 * stats.t.ppf(0.9, 7) * 0.2)
    np.testing.assert_allclose(one.genes["high_95"] - one.genes["low_95"], 1.0)


def test_own_genes_are_not_counted_as_listed():
    table = table_of(adj_p_value=np.r_[0.01, 0.01, 0.02, np.full(G - 3, 0.9)])
    (one,) = gene_lists(table, {"A+B": ("A", "B")})
    assert one.n_listed == 1
    assert one.sentence.startswith("1 gene is listed at 10%")


def test_no_list_is_another_thing_than_an_empty_one():
    (none,), (empty,) = (gene_lists(table_of(adj_p_value=q), {}) for q in (np.nan, 0.9))
    assert (none.n_listed, empty.n_listed) == (None, 0)
    assert none.sentence != empty.sentence


def test_targets_and_contexts_have_each_their_own_in_order():
    tables = [table_of(target).assign(context=context) for target in ("Z", "A") for context in ("late", "early")]
    titles = [one.title for one in gene_lists(pd.concat(tables, ignore_index=True), {})]
    assert titles == ["Z (late)", "Z (early)", "A (late)", "A (early)"]


def test_what_is_predicted_as_zero_is_no_largest_effect():
    few = np.r_[1.0, 2.0, 0.5, np.zeros(G - 3)]
    (one,) = gene_lists(table_of(effect=few), {"A+B": ("A", "B")})
    assert one.genes["gene"].tolist() == ["G00"]
    (nothing,) = gene_lists(table_of(effect=np.zeros(G)), {"A+B": ("A", "B")})
    assert nothing.sentence == "No effect is predicted on any other gene."
    assert "The largest effects:" not in _of_genes(nothing)
    assert "The largest effects:" in _of_genes(one)
