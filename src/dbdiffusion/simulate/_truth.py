"""True effects: the same cell states with and without a perturbation, counts integrated out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dbdiffusion.simulate._simulation import Simulation

TARGET_SUM = 1e4


def population_effects(simulation: Simulation, rng: np.random.Generator, n_states: int = 200) -> np.ndarray:
    """Population effects (P, G) on the scale mean log1p CP10K; exactly 0 where the expected shares of counts are the same."""
    mechanism = simulation.mechanism
    half = mechanism.noise_sd * rng.standard_normal((n_states // 2, mechanism.n_sources))
    noise = np.vstack([half, -half])
    library = np.exp(rng.choice(simulation.log_library, (len(noise), 1)))
    batch = simulation.batch_shift[np.arange(len(noise)) % len(simulation.batch_shift)]

    def shares(code: int) -> np.ndarray:
        return mechanism.shares(noise, batch, np.full(len(noise), code))

    def mean_log1p(of: np.ndarray) -> np.ndarray:
        return expected_log1p(library * of, TARGET_SUM / library, simulation.dispersion).mean(axis=0)

    without = shares(0)
    control = mean_log1p(without)
    effects = np.zeros((mechanism.n_perturbations, len(control)))
    for effect, code in zip(effects, range(1, len(effects) + 1), strict=True):
        perturbed = shares(code)
        differs = (perturbed != without).any(axis=0)
        effect[differs] = mean_log1p(perturbed[:, differs]) - control[differs]
    return (1 - simulation.escape) * effects


def expected_log1p(mean: np.ndarray, scale: np.ndarray, dispersion: float) -> np.ndarray:
    r"""Mean of log(1 + scale * X) for a negative binomial X, exactly up to quadrature.

    By Frullani's integral :math:`\log(1+a) = \int_0^\infty (1 - e^{-ta}) e^{-t} / t \, dt`, so the mean needs only the
    Laplace transform of X; the trapezoid rule in log t converges geometrically.

    Parameters
    ----------
    mean
        Means of X, any shape.
    scale
        Factor on the counts, broadcast against ``mean``.
    dispersion
        Inverse dispersion theta.

    Returns
    -------
    ndarray
        Same shape as ``mean``, natural log.

    Examples
    --------
    >>> float(expected_log1p(np.array([2.0]), np.array([0.0]), 4.0)[0])
    0.0
    """
    total = np.zeros(np.broadcast_shapes(mean.shape, np.shape(scale)))
    step = 0.75
    for log_t in np.arange(-18.0, 3.0, step):
        t = np.exp(log_t)
        transform = np.exp(-dispersion * np.log1p(mean / dispersion * -np.expm1(-t * scale)))
        total += step * np.exp(-t) * (1.0 - transform)
    return total
