import numpy as np

from dbdiffusion.inference import References, fit_rectifier, paper_estimate

K, G = 7, 11


def test_formulas():
    rng = np.random.default_rng(0)
    observed, generated, target = rng.standard_normal((K, G)), rng.standard_normal((K, G)), rng.standard_normal(G)
    variance = rng.uniform(0.1, 1, (K, G))
    estimate = paper_estimate(target, observed, generated, variance)
    for g in range(G):
        t2 = np.cov(observed[:, g])
        np.testing.assert_allclose(estimate.effect[g], target[g] + np.mean(observed[:, g] - generated[:, g]))
        np.testing.assert_allclose(estimate.se[g] ** 2, sum(variance[i, g] + t2 for i in range(K)) / K**2)
    assert np.isinf(estimate.df).all()


def test_full_weights_without_cross_fitting_are_the_papers_point_estimate():
    rng = np.random.default_rng(1)
    observed, generated, target = rng.standard_normal((K, G)), rng.standard_normal((K, G)), rng.standard_normal(G)
    one = np.ones((K, G))
    references = References(observed, one, np.ones(G), {"generated": generated, "ridge": observed})
    plain = fit_rectifier(references, lam=1.0).estimate({"generated": target[None], "ridge": target[None]})
    np.testing.assert_allclose(plain.effect[0], paper_estimate(target, observed, generated, one).effect)


def test_a_constant_bias_of_the_generator_is_removed():
    rng = np.random.default_rng(0)
    truth, bias = rng.standard_normal((K + 1, G)), rng.standard_normal(G)
    estimate = paper_estimate(truth[0] + bias, truth[1:], truth[1:] + bias, np.zeros((K, G)))
    np.testing.assert_allclose(estimate.effect, truth[0])


def test_order_of_the_members_does_not_matter():
    rng = np.random.default_rng(0)
    observed, generated, variance = rng.standard_normal((3, K, G))
    first = paper_estimate(np.zeros(G), observed, generated, variance**2)
    second = paper_estimate(np.zeros(G), observed[::-1], generated[::-1], variance[::-1] ** 2)
    np.testing.assert_allclose(first.effect, second.effect)
    np.testing.assert_allclose(first.se, second.se)


def test_a_cluster_of_one_has_no_interval():
    estimate = paper_estimate(np.zeros(G), np.ones((1, G)), np.zeros((1, G)), np.ones((1, G)))
    assert np.array_equal(estimate.effect, np.ones(G))
    assert np.isnan(estimate.se).all()


def test_it_covers_the_clusters_mean_but_not_a_new_member():
    rng = np.random.default_rng(0)
    covered_mean, covered_new = [], []
    for _ in range(200):
        cluster_mean = rng.standard_normal(G)
        effects = cluster_mean + rng.standard_normal((31, G))
        observed = effects[1:] + 0.3 * rng.standard_normal((30, G))
        estimate = paper_estimate(np.zeros(G), observed, np.zeros((30, G)), np.full((30, G), 0.09))
        low, high = estimate.interval(0.95)
        covered_mean.append((low < cluster_mean) & (cluster_mean < high))
        covered_new.append((low < effects[0]) & (effects[0] < high))
    assert 0.93 < np.mean(covered_mean) < 0.98
    assert np.mean(covered_new) < 0.5
