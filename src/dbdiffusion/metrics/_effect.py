"""Metrics of predicted effects against observed or true ones: pure functions of arrays."""

from __future__ import annotations

import numpy as np


def pearson(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Pearson correlation over genes, one value a row; NaN where a row does not vary.

    Parameters
    ----------
    predicted, reference
        (n, G), NaN entries are left out.

    Examples
    --------
    >>> pearson(np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 4.0, 6.0]])).round(3)
    array([1.])
    """
    known = np.isfinite(predicted) & np.isfinite(reference)
    count = known.sum(axis=1, keepdims=True)

    def centred(values: np.ndarray) -> np.ndarray:
        values = np.where(known, values, 0.0)
        return np.where(known, values - values.sum(axis=1, keepdims=True) / np.maximum(count, 1), 0.0)

    a, b = centred(predicted), centred(reference)
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    varies = _varies(predicted, known) & _varies(reference, known)
    return np.divide((a * b).sum(axis=1), norm, out=np.full(len(a), np.nan), where=varies & (norm > 0))


def _varies(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Whether a row has two different known values; rounding leaves a constant row a variance above zero."""
    return np.where(known, values, -np.inf).max(axis=1) > np.where(known, values, np.inf).min(axis=1)


def mean_squared_error(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Mean squared error over genes, one value a row; NaN entries are left out.

    Examples
    --------
    >>> mean_squared_error(np.array([[1.0, np.nan]]), np.array([[0.0, 5.0]]))
    array([1.])
    """
    squared = (predicted - reference) ** 2
    known = np.isfinite(squared)
    total, count = np.where(known, squared, 0.0).sum(axis=1), known.sum(axis=1)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def largest(effect: np.ndarray, n: int) -> np.ndarray:
    """The n largest entries of each row in size, as a mask (rows, G); fewer where fewer are known.

    Handed the observed effects, it uses the truth to choose genes, so report all genes beside it.

    Examples
    --------
    >>> largest(np.array([[0.1, -3.0, 2.0, np.nan]]), 2)
    array([[False,  True,  True, False]])
    """
    size = np.where(np.isfinite(effect), np.abs(effect), -np.inf)
    order = np.argsort(-size, axis=1, kind="stable")[:, :n]
    mask = np.zeros(effect.shape, dtype=bool)
    np.put_along_axis(mask, order, values=True, axis=1)
    return mask & np.isfinite(effect)


def sign_agreement(predicted: np.ndarray, reference: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Share of genes whose predicted effect has the sign of the reference, one value a row; a predicted zero is half right.

    Parameters
    ----------
    predicted, reference
        (n, G), NaN entries are left out.
    among
        (n, G) boolean: the genes that count, for instance those differentially expressed in the reference.

    Examples
    --------
    >>> sign_agreement(
    ...     np.array([[1.0, 1.0, 0.0, 5.0]]), np.array([[2.0, -1.0, 1.0, -9.0]]), np.array([[True, True, True, False]])
    ... )
    array([0.5])
    """
    among = among & np.isfinite(predicted) & np.isfinite(reference)
    agreement = 0.5 * (1 + np.sign(np.where(among, predicted, 0.0)) * np.sign(np.where(among, reference, 0.0)))
    total, count = np.where(among, agreement, 0.0).sum(axis=1), among.sum(axis=1)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def discrimination(predicted: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Rank of a row's own reference among all references by cosine similarity: 1 is best, .5 is chance, NaN if it is alone.

    Parameters
    ----------
    predicted, reference
        (n, G), finite.

    Examples
    --------
    >>> discrimination(np.eye(3), np.eye(3))
    array([1., 1., 1.])
    """
    similarity = _unit(predicted) @ _unit(reference).T
    own = np.diag(similarity)[:, None]
    others = ~np.eye(len(similarity), dtype=bool)
    below = ((similarity < own) & others).sum(axis=1) + 0.5 * ((similarity == own) & others).sum(axis=1)
    return below / (len(similarity) - 1) if len(similarity) > 1 else np.full(len(similarity), np.nan)


def precision_recall(called: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Precision and recall of boolean calls; NaN where nothing was called, or nothing is true.

    Examples
    --------
    >>> precision_recall(np.array([True, True, False]), np.array([True, False, True]))
    (0.5, 0.5)
    """
    hits = float((called & true).sum())
    n_called, n_true = int(called.sum()), int(true.sum())
    return (hits / n_called if n_called else np.nan, hits / n_true if n_true else np.nan)


def _unit(values: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, norm, out=np.zeros_like(values), where=norm > 0)


# Ratios of squared errors over perturbations.


def error_ratio(error: np.ndarray, baseline: np.ndarray) -> tuple[float, float]:
    """Ratio of summed squared errors to those of a baseline, and its standard error over perturbations.

    Parameters
    ----------
    error, baseline
        (P,) squared errors of the same perturbations, the noise of the observation taken out or not.

    Returns
    -------
    tuple of float
        The ratio of the sums, and its standard error by the delta method (NaN for a single perturbation). Both NaN where the
        baseline has no error.

    Examples
    --------
    >>> ratio, se = error_ratio(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    >>> ratio, se
    (0.5, 0.0)
    """
    n, total = len(error), float(np.sum(baseline))
    if n == 0 or total <= 0:
        return float("nan"), float("nan")
    ratio = float(np.sum(error)) / total
    if n == 1:
        return ratio, float("nan")
    return ratio, float(np.std(error - ratio * baseline, ddof=1) * np.sqrt(n) / total)


# Every score of predicted effects at once, so that all methods are compared by the same ones.


TOP = (20, 100)


def effect_scores(
    predicted: np.ndarray,
    reference: np.ndarray,
    mean_effect: np.ndarray,
    significant: np.ndarray,
    own: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Scores of predicted effects of n perturbations on G genes, each an array (n,).

    An error is the same whether effects are measured from control or from the mean perturbation, a correlation is not:
    ``pearson`` (against control) rewards what all perturbations share, ``pearson_mean`` (against the mean of the measured
    perturbations) does not.

    Parameters
    ----------
    predicted, reference
        (n, G) effects against control; ``reference`` is observed or true.
    mean_effect
        (n, G) or (G,): mean effect of the measured perturbations.
    significant
        (n, G) boolean: genes differentially expressed in the reference.
    own
        (n, G) boolean: genes that a perturbation itself hits, left out of its scores, and of ``discrimination`` for all.

    Returns
    -------
    dict
        ``mse``, ``pearson`` and ``pearson_mean``; the same over the 20 and the 100 largest reference effects (``mse_top20``
        and so on); ``discrimination`` (share of the other references that are less similar by cosine); ``sign_agreement``
        over the significant genes.

    References
    ----------
    Viñas Torné et al., Systema, Nat Biotechnol (2025), for the reference to the perturbation mean.

    Examples
    --------
    >>> reference = np.random.default_rng(0).standard_normal((3, 11))
    >>> scores = effect_scores(reference, reference, reference.mean(axis=0), reference > 0)
    >>> float(scores["mse"].max()), float(scores["sign_agreement"].min()), float(scores["discrimination"].min())
    (0.0, 1.0, 1.0)
    """
    hidden = np.zeros(reference.shape, dtype=bool) if own is None else own
    truth = np.where(hidden, np.nan, reference)
    scores = _errors_and_correlations(predicted, truth, mean_effect)
    for n in TOP:
        top = np.where(largest(truth, n), truth, np.nan)
        scores |= {f"{name}_top{n}": value for name, value in _errors_and_correlations(predicted, top, mean_effect).items()}
    kept = ~hidden.any(axis=0)
    scores["discrimination"] = discrimination(predicted[:, kept], reference[:, kept])
    scores["sign_agreement"] = sign_agreement(predicted, truth, significant)
    return scores


def _errors_and_correlations(predicted: np.ndarray, truth: np.ndarray, mean_effect: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "mse": mean_squared_error(predicted, truth),
        "pearson": pearson(predicted, truth),
        "pearson_mean": pearson(predicted - mean_effect, truth - mean_effect),
    }
