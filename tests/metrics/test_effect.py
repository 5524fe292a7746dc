import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mean_squared_error as sklearn_mse
from sklearn.metrics import precision_score, recall_score

from dbdiffusion.metrics import discrimination, largest, mean_squared_error, pearson, precision_recall, sign_agreement

P, G = 4, 11


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    reference = rng.standard_normal((P, G))
    return reference + rng.standard_normal((P, G)), reference


def holes(values, rows=(0, 0, 2), columns=(3, 7, 5)):
    values = values.copy()
    values[list(rows), list(columns)] = np.nan
    return values


def test_pearson_is_scipys(pair):
    expected = [stats.pearsonr(a, b).statistic for a, b in zip(*pair, strict=True)]
    np.testing.assert_allclose(pearson(*pair), expected)


def test_pearson_ignores_scale_and_shift(pair):
    predicted, reference = pair
    np.testing.assert_allclose(pearson(3 * predicted + 7, reference), pearson(predicted, reference))
    np.testing.assert_allclose(pearson(-predicted, reference), -pearson(predicted, reference))


def test_pearson_leaves_out_what_either_side_lacks(pair):
    predicted, reference = holes(pair[0]), holes(pair[1], rows=(0, 3), columns=(1, 2))
    expected = []
    for a, b in zip(predicted, reference, strict=True):
        known = np.isfinite(a) & np.isfinite(b)
        expected.append(stats.pearsonr(a[known], b[known]).statistic)
    np.testing.assert_allclose(pearson(predicted, reference), expected)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("constant", [0.0, 2.0, 0.3])
def test_pearson_of_a_constant_is_unknown(pair, constant):
    predicted, reference = pair[0].copy(), pair[1]
    predicted[1] = constant
    assert np.isnan(pearson(predicted, reference)).tolist() == [False, True, False, False]


def test_mean_squared_error_is_sklearns(pair):
    expected = sklearn_mse(pair[1].T, pair[0].T, multioutput="raw_values")
    np.testing.assert_allclose(mean_squared_error(*pair), expected)


def test_mean_squared_error_leaves_out_what_is_missing(pair):
    filled = pair[0].copy()
    filled[[0, 0, 2], [3, 7, 5]] = pair[1][[0, 0, 2], [3, 7, 5]]
    known = np.array([G - 2, G, G - 1, G])
    np.testing.assert_allclose(mean_squared_error(holes(pair[0]), pair[1]) * known, mean_squared_error(filled, pair[1]) * G)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_mean_squared_error_of_nothing_is_unknown(pair):
    predicted = pair[0].copy()
    predicted[1] = np.nan
    assert np.isnan(mean_squared_error(predicted, pair[1])).tolist() == [False, True, False, False]


def test_discrimination_is_the_share_of_less_similar_references():
    rng = np.random.default_rng(0)
    predicted, reference = rng.standard_normal((2, 7, G))
    cosine = lambda a, b: a @ b / np.sqrt((a @ a) * (b @ b))  # noqa: E731
    expected = [
        np.mean([cosine(predicted[i], reference[j]) < cosine(predicted[i], reference[i]) for j in range(7) if j != i])
        for i in range(7)
    ]
    np.testing.assert_allclose(discrimination(predicted, reference), expected)
    np.testing.assert_allclose(discrimination(5 * predicted, reference), expected)


def test_discrimination_of_perfect_worst_and_equal_predictions():
    reference = np.random.default_rng(0).standard_normal((7, G))
    assert (discrimination(reference, reference) == 1).all()
    assert (discrimination(-reference, reference) == 0).all()
    assert (discrimination(np.zeros((7, G)), reference) == 0.5).all()
    same_for_all = np.tile(reference.mean(axis=0), (7, 1))
    np.testing.assert_allclose(discrimination(same_for_all, reference).mean(), 0.5)


def test_discrimination_of_a_single_prediction_is_missing():
    assert np.isnan(discrimination(np.ones((1, G)), np.ones((1, G)))).all()
    assert discrimination(np.empty((0, G)), np.empty((0, G))).shape == (0,)


def test_discrimination_at_random_is_one_half():
    rng = np.random.default_rng(0)
    assert abs(discrimination(rng.standard_normal((300, G)), rng.standard_normal((300, G))).mean() - 0.5) < 0.05


def test_precision_and_recall_are_sklearns():
    rng = np.random.default_rng(0)
    called, true = rng.random((P, G)) < 0.4, rng.random((P, G)) < 0.6
    expected = precision_score(true.ravel(), called.ravel()), recall_score(true.ravel(), called.ravel())
    np.testing.assert_allclose(precision_recall(called, true), expected)


def test_precision_and_recall_of_nothing_are_unknown():
    none, some = np.zeros(G, dtype=bool), np.arange(G) < 3
    np.testing.assert_equal(precision_recall(none, some), (np.nan, 0.0))
    np.testing.assert_equal(precision_recall(some, none), (0.0, np.nan))


@pytest.mark.parametrize("n", [1, 4, G, 2 * G])
def test_the_largest_are_no_smaller_than_the_rest(pair, n):
    effect = holes(pair[1])
    mask = largest(effect, n)
    for row, chosen in zip(effect, mask, strict=True):
        known = np.isfinite(row)
        assert chosen.sum() == min(n, known.sum())
        assert not chosen[~known].any()
        assert np.abs(row[chosen]).min() >= np.abs(row[known & ~chosen]).max(initial=0)


def test_sign_agreement_counts_genes(pair):
    predicted, reference = pair
    among = np.abs(reference) > 0.5
    expected = [
        np.mean([(p > 0) == (r > 0) for p, r, a in zip(*rows, strict=True) if a]) for rows in zip(*pair, among, strict=True)
    ]
    np.testing.assert_allclose(sign_agreement(predicted, reference, among), expected)
    np.testing.assert_allclose(sign_agreement(3 * predicted, reference, among), expected)
    np.testing.assert_allclose(sign_agreement(-predicted, reference, among), 1 - np.array(expected))


def test_sign_agreement_of_no_effect_is_one_half_and_of_no_genes_unknown(pair):
    everywhere = np.ones((P, G), dtype=bool)
    assert (sign_agreement(np.zeros((P, G)), pair[1], everywhere) == 0.5).all()
    assert np.isnan(sign_agreement(pair[0], pair[1], ~everywhere)).all()


def test_sign_agreement_leaves_out_what_is_missing(pair):
    everywhere, known = np.ones((P, G), dtype=bool), np.isfinite(holes(pair[0]))
    np.testing.assert_allclose(sign_agreement(holes(pair[0]), pair[1], everywhere), sign_agreement(*pair, known))
