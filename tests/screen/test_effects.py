from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from dbdiffusion.screen import ObservedEffects, contrast_within_batches, grouped_moments, log1p_cp10k
from dbdiffusion.screen._effects import PRIOR_DF

N, G, P, BATCHES = 60, 11, 4, 3
CONTROL = 1


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def moments_of(values, perturbation, batch, n_batches=BATCHES, n_perturbations=P):
    return grouped_moments([(sp.csr_matrix(values), perturbation * n_batches + batch)], n_perturbations * n_batches, G)


@pytest.fixture
def cells(rng):
    values = rng.poisson(1.0, (N, G)) * rng.random((N, G))
    perturbation = rng.permutation(np.repeat(np.arange(P), [11, 24, 18, 7]))
    rank = pd.Series(perturbation).groupby(perturbation).cumcount().to_numpy()
    return values, perturbation, np.array([0, 1, 2, 0, 0, 1, 2])[rank % 7]


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array])
def test_log1p_cp10k_is_the_dense_formula(rng, kind):
    counts = rng.poisson(0.7, (7, G)).astype(np.int64)
    library = counts.sum(axis=1) + 3.0
    answer = log1p_cp10k(kind(counts), library)
    assert sp.issparse(answer)
    np.testing.assert_allclose(answer.toarray(), np.log1p(counts / library[:, None] * 1e4), rtol=1e-5)


def test_log1p_cp10k_leaves_the_input_and_empty_cells_alone(rng):
    before = rng.poisson(0.7, (7, G)).astype(np.float32)
    before[2] = 0
    counts = sp.csr_matrix(before)
    answer = log1p_cp10k(counts, before.sum(axis=1)).toarray()
    assert np.array_equal(counts.toarray(), before)
    assert np.isfinite(answer).all()
    assert not answer[2].any()
    assert answer[[0, 1, 3, 4, 5, 6]].any(axis=1).all()


def test_log1p_cp10k_adds_duplicate_entries_before_the_logarithm():
    twice = sp.csr_matrix((np.array([2.0, 3.0]), np.array([1, 1]), np.array([0, 2])), shape=(1, 2))
    once = sp.csr_matrix(np.array([[0.0, 5.0]]))
    np.testing.assert_allclose(log1p_cp10k(twice, np.array([50.0])).toarray(), log1p_cp10k(once, np.array([50.0])).toarray())


def test_depth_of_a_cell_changes_nothing(rng):
    counts, depth = rng.poisson(3, (7, G)).astype(float), rng.uniform(0.5, 20, 7)
    deeper = counts * depth[:, None]
    first, second = (log1p_cp10k(x, x.sum(axis=1)).toarray() for x in (counts, deeper))
    np.testing.assert_allclose(second, first, rtol=1e-5)


def test_grouped_moments_agree_with_pandas(cells):
    values, perturbation, _ = cells
    moments = grouped_moments([(sp.csr_matrix(values), perturbation)], P, G)
    groups = pd.DataFrame(values).groupby(perturbation)
    assert np.array_equal(moments.n_cells, groups.size())
    np.testing.assert_allclose(moments.mean, groups.mean())
    np.testing.assert_allclose(moments.sum_of_squares, groups.var().mul(groups.size() - 1, axis=0), atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 7, 59])
def test_chunks_do_not_matter(cells, chunk):
    values, perturbation, _ = cells
    whole = grouped_moments([(sp.csr_matrix(values), perturbation)], P, G)
    pieces = [(sp.csr_matrix(values[i : i + chunk]), perturbation[i : i + chunk]) for i in range(0, N, chunk)]
    chunked = grouped_moments(pieces, P, G)
    assert np.array_equal(whole.n_cells, chunked.n_cells)
    np.testing.assert_allclose(whole.mean, chunked.mean)
    np.testing.assert_allclose(whole.sum_of_squares, chunked.sum_of_squares, atol=1e-10)


def test_code_minus_one_and_empty_groups_do_not_count(cells):
    values, perturbation, _ = cells
    out = perturbation == 2
    moments = grouped_moments([(sp.csr_matrix(values), np.where(out, -1, perturbation))], P, G)
    kept = grouped_moments([(sp.csr_matrix(values[~out]), perturbation[~out])], P, G)
    assert moments.n_cells[2] == 0
    assert not moments.mean[2].any()
    np.testing.assert_allclose(moments.mean, kept.mean)
    np.testing.assert_allclose(moments.sum_of_squares, kept.sum_of_squares, atol=1e-10)


def drawn_together(variance, df, values, groups):
    """Moderated variance and its degrees of freedom, from the cells themselves."""
    pooled = sum(((values[groups == g] - values[groups == g].mean(axis=0)) ** 2).sum(axis=0) for g in np.unique(groups))
    pooled = pooled / (len(values) - len(np.unique(groups)))
    df = df * values.sum(axis=0) ** 2 / (len(values) * (values**2).sum(axis=0))
    return (df * variance + PRIOR_DF * pooled) / (df + PRIOR_DF), df + PRIOR_DF


def test_one_batch_gives_differences_of_means_and_their_variances(cells):
    values, perturbation, _ = cells
    observed = contrast_within_batches(moments_of(values, perturbation, 0, n_batches=1), 1, CONTROL)
    groups = pd.DataFrame(values).groupby(perturbation)
    mean, variance, size = groups.mean().to_numpy(), groups.var().to_numpy(), groups.size().to_numpy()
    np.testing.assert_allclose(observed.effect, mean - mean[CONTROL], atol=1e-12)
    expected, df = drawn_together(variance, size[:, None] - 1, values, perturbation)
    np.testing.assert_allclose(observed.variance, expected / size[:, None])
    np.testing.assert_allclose(observed.control_variance, np.tile(expected[CONTROL] / size[CONTROL], (P, 1)))
    np.testing.assert_allclose(observed.mean_control, np.tile(mean[CONTROL], (P, 1)))
    np.testing.assert_allclose(observed.df, df)
    assert observed.control_df == size[CONTROL] - 1
    assert np.array_equal(observed.n_cells, size)


def test_a_gene_that_no_cell_of_a_perturbation_expresses_still_has_a_variance(rng):
    values = rng.poisson(0.3, (400, G)).astype(float)
    perturbation = np.repeat(np.arange(P), 100)
    values[perturbation == 2, 0] = 0
    observed = contrast_within_batches(moments_of(values, perturbation, 0, n_batches=1), 1, CONTROL)
    assert 0.2 < observed.variance[2, 0] / observed.variance[0, 0] < 1
    assert observed.df[2, 0] < 60


def test_many_cells_speak_for_themselves(rng):
    values = 3 + rng.standard_normal((P * 20_000, G)) * rng.uniform(0.5, 2, G)
    perturbation = np.repeat(np.arange(P), 20_000)
    observed = contrast_within_batches(moments_of(values, perturbation, 0, n_batches=1), 1, CONTROL)
    raw = pd.DataFrame(values).groupby(perturbation).var().to_numpy() / 20_000
    np.testing.assert_allclose(observed.variance, raw, rtol=1e-3)


def test_control_has_no_effect(cells):
    values, perturbation, batch = cells
    observed = contrast_within_batches(moments_of(values, perturbation, batch), BATCHES, CONTROL)
    np.testing.assert_allclose(observed.effect[CONTROL], 0, atol=1e-12)
    assert np.abs(observed.effect[[0, 2, 3]]).min() > 0


def test_batch_composition_is_no_effect(rng):
    shift = 5 * rng.standard_normal((BATCHES, G))
    share = np.array([[0.8, 0.1, 0.1], [0.3, 0.3, 0.4], [0.0, 0.1, 0.9], [0.1, 0.8, 0.1]])
    perturbation = np.repeat(np.arange(P), 50)
    batch = np.concatenate([np.repeat(np.arange(BATCHES), np.rint(50 * row).astype(int)) for row in share])
    values = shift[batch]
    pooled = contrast_within_batches(moments_of(values, perturbation, 0, n_batches=1), 1, CONTROL)
    inside = contrast_within_batches(moments_of(values, perturbation, batch), BATCHES, CONTROL)
    assert np.abs(pooled.effect[[0, 2, 3]]).max() > 1
    np.testing.assert_allclose(inside.effect, 0, atol=1e-10)
    np.testing.assert_allclose(inside.variance, 0, atol=1e-10)


def test_contrast_over_batches_is_the_weighted_formula(cells):
    values, perturbation, batch = cells
    observed = contrast_within_batches(moments_of(values, perturbation, batch), BATCHES, CONTROL)
    for i in range(P):
        effect = weight_sum = inverse = inverse_control = squares = squares_control = 0
        df = df_control = 0
        for b in range(BATCHES):
            own, control = (values[(perturbation == p) & (batch == b)] for p in (i, CONTROL))
            weight = len(own) * len(control) / (len(own) + len(control))
            weight_sum += weight
            effect = effect + weight * (own.mean(axis=0) - control.mean(axis=0))
            inverse += weight**2 / len(own)
            inverse_control += weight**2 / len(control)
            squares = squares + ((own - own.mean(axis=0)) ** 2).sum(axis=0)
            squares_control = squares_control + ((control - control.mean(axis=0)) ** 2).sum(axis=0)
            df, df_control = df + len(own) - 1, df_control + len(control) - 1
        np.testing.assert_allclose(observed.effect[i], effect / weight_sum, atol=1e-12)
        groups = perturbation * BATCHES + batch
        variance, df = drawn_together(squares / df, df, values, groups)
        control_variance, _ = drawn_together(squares_control / df_control, df_control, values, groups)
        np.testing.assert_allclose(observed.variance[i], variance * inverse / weight_sum**2)
        np.testing.assert_allclose(observed.control_variance[i], control_variance * inverse_control / weight_sum**2)
        np.testing.assert_allclose(observed.df[i], df)


def test_stated_variance_is_the_variance_over_screens(rng):
    perturbation = np.repeat(np.arange(P), [9, 30, 14, 22])
    batch = np.concatenate([np.arange(n) % BATCHES for n in (9, 30, 14, 22)])
    effects, stated = [], []
    for _ in range(400):
        observed = contrast_within_batches(
            moments_of(rng.standard_normal((len(batch), G)), perturbation, batch), BATCHES, CONTROL
        )
        effects.append(observed.effect)
        stated.append(observed.variance + observed.control_variance)
    others = [0, 2, 3]
    ratio = np.var(effects, axis=0)[others].mean(axis=1) / np.mean(stated, axis=0)[others].mean(axis=1)
    np.testing.assert_allclose(ratio, 1, atol=0.1)


def test_without_a_shared_batch_there_is_no_effect(rng):
    perturbation = np.repeat([0, 1, 2, 3], [10, 20, 15, 12])
    batch = np.where(perturbation == 2, 2, np.arange(len(perturbation)) % 2)
    observed = contrast_within_batches(moments_of(rng.random((len(batch), G)), perturbation, batch), BATCHES, CONTROL)
    assert observed.n_cells.tolist() == [10, 20, 0, 12]
    assert np.isnan(observed.effect[2]).all()
    assert np.isfinite(observed.effect[[0, 1, 3]]).all()


def test_only_cells_of_shared_batches_are_counted(rng):
    perturbation = np.repeat([0, 1, 2, 3], [10, 20, 15, 12])
    batch = np.zeros(len(perturbation), dtype=int)
    batch[:4] = 2
    values = rng.random((len(batch), G))
    observed = contrast_within_batches(moments_of(values, perturbation, batch), BATCHES, CONTROL)
    assert observed.n_cells[0] == 6
    np.testing.assert_allclose(observed.effect[0], values[4:10].mean(axis=0) - values[perturbation == CONTROL].mean(axis=0))


def test_subset_takes_rows_of_everything_per_perturbation(cells):
    values, perturbation, batch = cells
    observed = contrast_within_batches(moments_of(values, perturbation, batch), BATCHES, CONTROL)
    some = observed.subset(np.array([3, 0]))
    for name in ("effect", "variance", "control_variance", "df", "mean_control", "n_cells", "n_expressing"):
        assert np.array_equal(getattr(some, name), getattr(observed, name)[[3, 0]]), name
    assert some.control_df == observed.control_df


def test_joined_screens_keep_their_rows():
    rng = np.random.default_rng(0)

    def observed(n, control_df):
        of_genes = ("effect", "variance", "control_variance", "mean_control", "n_expressing")
        rows = {name: rng.random((n, 7)) for name in of_genes}
        return ObservedEffects(**rows, df=rng.random(n), n_cells=np.arange(n), control_df=control_df)

    first, second = observed(3, 9.0), observed(2, 5.0)
    both = first.joined(second)
    for name in ("effect", "variance", "control_variance", "df", "mean_control", "n_cells", "n_expressing"):
        assert np.array_equal(getattr(both.subset(np.arange(3)), name), getattr(first, name))
        assert np.array_equal(getattr(both.subset(np.arange(3, 5)), name), getattr(second, name))
    assert both.control_df == 5.0


def test_expected_expressing_cells_count_both_groups_alike_inside_batches(rng):
    """Batch by batch, weighted as the contrast is: the mean of what is seen and of what control's rate would give."""
    perturbation, batch = np.repeat([0, CONTROL], [8, 30]), np.tile([0, 1], 19)
    values = (rng.random((38, G)) < np.linspace(0, 1, G)).astype(float) * rng.random((38, G))
    observed = contrast_within_batches(moments_of(values, perturbation, batch), BATCHES, CONTROL)
    own = (values[:8] > 0).mean(axis=0)  # both batches have as many cells, so they weigh the same
    control = np.mean([(values[(perturbation == CONTROL) & (batch == b)] > 0).mean(axis=0) for b in (0, 1)], axis=0)
    np.testing.assert_allclose(observed.n_expressing[0], 8 * (own + control) / 2)


def test_a_gene_that_only_the_perturbation_expresses_can_be_tested(rng):
    perturbation, values = np.repeat([0, 2, CONTROL], [20, 20, 21]), np.zeros((61, G))
    values[:20, 3] = 1 + rng.random(20)  # switched on in all cells
    values[20, 4] = 1.0  # one cell of another
    observed = contrast_within_batches(moments_of(values, perturbation, np.zeros(61, dtype=int)), BATCHES, CONTROL)
    assert observed.can_be_tested[0].nonzero()[0].tolist() == [3]
    assert not observed.can_be_tested[2].any()


def test_effects_of_before_may_be_tested_everywhere():
    one = np.ones((3, 7))
    observed = ObservedEffects(one, one, one, one, 9.0, one, np.full(3, 5))
    assert np.isnan(observed.n_expressing).all()
    assert observed.can_be_tested.all()
    assert observed.joined(replace(observed, n_expressing=4 * one)).can_be_tested.sum() == 21
