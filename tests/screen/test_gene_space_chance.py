import numpy as np
import pytest

from dbdiffusion.screen import norm_cv
from dbdiffusion.screen._gene_space import noise_edge

G = 11


def test_uncorrelated_genes_stay_below_the_edge():
    rng = np.random.default_rng(0)
    cells = rng.standard_normal((900, 60))
    largest = np.linalg.eigvalsh(np.corrcoef(cells.T)).max()
    assert 0.9 * noise_edge(np.ones(900), 60) < largest < 1.05 * noise_edge(np.ones(900), 60)


def test_spread_of_a_squared_norm_is_that_of_drawn_errors():
    rng = np.random.default_rng(0)
    vectors, variance = 0.5 * rng.standard_normal((G, 2)), 0.5 + rng.random(G)
    correlation = vectors @ vectors.T
    np.fill_diagonal(correlation, 1.0)
    covariance = np.sqrt(np.outer(variance, variance)) * correlation
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    drawn = (rng.standard_normal((200_000, G)) * np.sqrt(np.maximum(eigenvalues, 0))) @ eigenvectors.T
    squared_norm = (drawn**2).sum(axis=1)
    assert eigenvalues.min() > 0
    assert norm_cv(variance, vectors) == pytest.approx(squared_norm.std() / squared_norm.mean(), rel=0.02)
