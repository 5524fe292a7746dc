"""Every score of predicted effects at once, so that all methods are compared by the same ones."""

from __future__ import annotations

import numpy as np

from dbdiffusion.metrics._effect import discrimination, largest, mean_squared_error, pearson, sign_agreement

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
