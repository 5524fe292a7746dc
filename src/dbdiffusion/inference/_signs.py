r"""How often a predicted sign is wrong, read off left-out references.

An interval that holds an effect as often as it says does not tell how often the effect lies beyond zero, since errors are not
alike on both sides of a prediction. Perturbations differ in strength, so an effect is often smaller than predicted and has the
same sign all the same. A perturbation that is weak is weak in what was mispredicted, too. So the law of an effect, given its
prediction p, is here

.. math:: \theta = S\,(w\, p + c\, \tau\, t_\nu), \qquad \log w = b\,(z - \bar z),

with a log-normal strength S, or :math:`\theta = c\, \tau\, t_\nu` with probability :math:`\pi`: the target is misplaced. The
local false sign rate is the chance that the effect lies on the other side of zero. The support z says what speaks for a
prediction beside its size: how much the target's neighbours agree, and how much more than its noise a gene varies between
perturbations. The six numbers are those of maximum likelihood for what was observed of references that were predicted as if
unseen: the law plus the known noise of the observation. A normal prior holds b near zero where references tell little; each of
them counts as one sign.

Small predictions are chance more often than large ones, so four classes of :math:`|p| / \tau` have numbers of their own; the
last is the largest twentieth. Where none of K references is misplaced the next target may be: of K + 1 alike, each is as likely
to be the first. So one misplaced reference is added to those that were seen; where few references have most of a class, K is
their effective number. Genes that cannot be listed have no law: the noise of genes that few cells express is not symmetric.

Agreement by the error of the control mean, which prediction and observation share, would be no evidence. It must have been
taken out of both (:meth:`References.corrected`).

References
----------
Stephens, False discovery rates: a new deal, Biostatistics 18 (2017).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
from scipy import optimize, special, stats

from dbdiffusion.inference._estimate import PRECISE, log_mixture, scale_mixture, slope_of_precision, t_plus_normal
from dbdiffusion.inference._rectifier import MIN_REFERENCES_FOR_SHAPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dbdiffusion.inference._rectifier import Rectifier
    from dbdiffusion.inference._tuning import References


MAX_SIGNS = 20_000  # that are looked at: references are few, so more genes of them say little more
MAX_FITTED = 2_000  # of a class
CLASSES = (0.5, 0.8, 0.95)  # quantiles of the predictions' sizes between which a law of its own is fitted
N_STRENGTHS, N_SCALES = 7, 8  # quantiles of S and of the t's scale
STRENGTHS = stats.norm.ppf((np.arange(N_STRENGTHS) + 0.5) / N_STRENGTHS)
START = (-2.0, np.log(0.5), np.log(0.7), np.log(6.0), 0.0, 0.0)
LARGEST_SPREAD = 1.0  # of log S
LARGEST_STRENGTH = 2.0  # mean of S
LARGEST_SLOPE = 1.5
BOUNDS = (
    (-7.0, 4.0),
    *(
        (np.log(low), np.log(high))
        for low, high in ((0.05, LARGEST_SPREAD), (0.05, 3.0), (1.0, 100.0), (0.1, LARGEST_STRENGTH))
    ),
    (0.0, LARGEST_SLOPE),  # support never speaks against a prediction
)
SUPPORT_SLOPE_SD = 1.0


@dataclass(frozen=True)
class SignLaw:
    r"""Law of effects given predictions of a class.

    Parameters
    ----------
    misplaced
        :math:`\pi`.
    spread
        Standard deviation of :math:`\log S`.
    scale, df
        c and :math:`\nu`.
    strength
        Mean of S.
    slope
        b.

    Examples
    --------
    >>> law = SignLaw(misplaced=0.1, spread=0.5, scale=1.0, df=50.0)
    >>> law.wrong(np.array([0.0, -2.0, 50.0]), np.ones(3), np.zeros(3)).round(2).tolist()  # never below half of the misplaced
    [0.5, 0.07, 0.05]
    """

    misplaced: float
    spread: float
    scale: float
    df: float
    strength: float = 1.0
    slope: float = 0.0

    @property
    def strengths(self) -> np.ndarray:
        """Quantiles of S."""
        strengths = np.exp(self.spread * STRENGTHS)
        return self.strength * strengths / strengths.mean()

    def wrong(
        self, predicted: np.ndarray, between: np.ndarray, known: np.ndarray, support: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """Chance that an effect, or what is seen of it, has another sign than its prediction; all arguments broadcast.

        Parameters
        ----------
        predicted
            Effects.
        between
            Variance between perturbations around predictions.
        known
            Variance of normal noise: what predictions carry of the control's error, and that of an observation.
        support
            Less its mean over the references.
        """
        size = np.exp(self.slope * support) * np.abs(predicted)
        of_placed = np.zeros(np.broadcast_shapes(size.shape, np.shape(between), np.shape(known)))
        for strength in self.strengths:
            se, df = t_plus_normal((strength * self.scale) ** 2 * between, known, self.df)
            with np.errstate(divide="ignore", invalid="ignore"):
                statistic = np.where(size == 0, 0.0, strength * size / se)
            of_placed += stats.t.sf(statistic, df) / N_STRENGTHS
        return self.misplaced / 2 + (1 - self.misplaced) * of_placed

    def gradient(self, signs: Signs) -> tuple[float, np.ndarray]:
        """Mean log density of signs; its gradient by the log odds of the misplaced, the logarithms of the next four, and b."""
        precision, weight = scale_mixture(self.df, N_SCALES)
        by_df = slope_of_precision(self.df, N_SCALES)
        size = np.exp(self.slope * signs.support) * signs.predicted
        mean = np.append(0.0, self.strengths) * size[:, None]  # (n, strengths), the first those of the misplaced
        scale = np.append(1.0, self.strengths)[:, None]
        shares = np.append(self.misplaced, np.full(N_STRENGTHS, (1 - self.misplaced) / N_STRENGTHS))
        unknown = (self.scale * scale) ** 2 * signs.between[:, None, None] / precision
        variance = unknown + signs.noise[:, None, None]
        error = (signs.agreement[:, None] - mean)[..., None]
        squares = error**2 / variance
        log_each = -0.5 * (np.log(variance) + squares)  # (n, strengths, scales)
        log_density, of_each = log_mixture(log_each.reshape(len(log_each), -1), np.outer(shares, weight).ravel())
        of_each = of_each.reshape(log_each.shape)
        by_scale = of_each * (squares - 1) * unknown / variance
        by_mean = (of_each * error / variance).sum(axis=2)[:, 1:] * mean[:, 1:]
        by_strength = by_mean + by_scale.sum(axis=2)[:, 1:]
        centred = STRENGTHS - (STRENGTHS @ self.strengths) / self.strengths.sum()
        gradient = np.array(
            [
                of_each[:, 0].sum(axis=1).mean() - self.misplaced,
                self.spread * (by_strength @ centred).mean(),
                by_scale.sum(axis=(1, 2)).mean(),
                -0.5 * (by_scale.sum(axis=1).mean(axis=0) @ by_df),
                by_strength.sum(axis=1).mean(),
                (by_mean.sum(axis=1) * signs.support).mean(),
            ]
        )
        return float(log_density.mean()), gradient


def supports(between: np.ndarray, noise: np.ndarray, coherence: np.ndarray | float = 1.0) -> np.ndarray:
    """What speaks for predictions beside their size, as a logarithm; all arguments broadcast.

    Root of how much the target's neighbours agree, times how many times its noise a gene varies between perturbations. Where
    all of a gene's effects are noise, so are predictions that are means of such effects. Laws of signs take its mean off, so
    units do not matter.

    Parameters
    ----------
    between
        Variance between perturbations around predictions.
    noise
        Standard deviation, see :attr:`References.typical_noise`.
    coherence
        See :func:`~dbdiffusion.embedding.neighbour_coherence`.

    Examples
    --------
    >>> supports(np.array([4.0, 1.0]), np.array([1.0, 1.0]), np.array([[0.25], [1.0]])).round(2).tolist()
    [[0.0, -0.69], [0.69, 0.0]]
    """
    with np.errstate(divide="ignore"):  # a gene that does not vary has the least support of all
        return 0.5 * np.log(coherence * between / noise**2)


@dataclass(frozen=True)
class Signs:
    """Left-out references, gene by gene: predictions, and observations turned so that agreement is positive; all (n,).

    They come in random order: of a class the first are fitted, so one that changes its class changes no other's place.

    Parameters
    ----------
    reference
        Row of the reference.
    predicted
        Size of the predicted effect.
    agreement
        Observed effect times the sign of the predicted one.
    between
        Variance between perturbations around predictions.
    carried
        Known variance of the prediction.
    noise
        Known variance of the difference of prediction and observation.
    support
        Of :func:`supports`.

    Examples
    --------
    >>> one = np.ones(3)
    >>> signs = Signs(np.arange(3), one, np.array([0.5, -0.2, 0.0]), one, 0 * one, one, 0 * one)
    >>> signs.disagrees.tolist(), signs.subset(np.array([0])).agreement.tolist()
    ([False, True, True], [0.5])
    """

    reference: np.ndarray
    predicted: np.ndarray
    agreement: np.ndarray
    between: np.ndarray
    carried: np.ndarray
    noise: np.ndarray
    support: np.ndarray

    @property
    def disagrees(self) -> np.ndarray:
        """Whether the observed sign is not the predicted one."""
        return self.agreement <= 0

    def subset(self, rows: np.ndarray) -> Self:
        """Some of them."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class SignLaws:
    """Laws of classes of predictions, from small to large beside the spread between perturbations.

    Parameters
    ----------
    edges
        (n - 1,) rising, of the prediction's size over the standard deviation between perturbations.
    laws
        (n,).
    support
        Smallest, mean and largest of the references: beyond them the laws go on level.

    Examples
    --------
    Small predictions tell nothing, large ones are right:

    >>> laws = SignLaws(np.array([1.0]), (SignLaw(1.0, 0.5, 1.0, 50.0), SignLaw(0.0, 0.5, 0.1, 50.0)), (-1.0, 0.0, 1.0))
    >>> laws.wrong(np.array([0.5, 2.0]), np.ones(2), np.zeros(2), np.zeros(2)).round(2).tolist()
    [0.5, 0.0]
    """

    edges: np.ndarray
    laws: tuple[SignLaw, ...]
    support: tuple[float, float, float]

    def wrong(self, predicted: np.ndarray, between: np.ndarray, known: np.ndarray, support: np.ndarray) -> np.ndarray:
        """As :meth:`SignLaw.wrong`, by the law of each prediction's class; ``support`` of :func:`supports`."""
        low, middle, high = self.support
        arguments = np.broadcast_arrays(predicted, between, known, np.clip(support, low, high) - middle)
        of_class = np.searchsorted(self.edges, _size(*arguments[:2]))
        answer = np.empty(of_class.shape)
        for k, law in enumerate(self.laws):
            inside = of_class == k
            answer[inside] = law.wrong(*(values[inside] for values in arguments))
        return answer


def fit_sign_law(signs: Signs, least: int = MIN_REFERENCES_FOR_SHAPE) -> SignLaws | None:
    """A law of every class of predictions; None with fewer than so many references, or where nothing varies.

    Examples
    --------
    >>> rng, n = np.random.default_rng(0), 20_000
    >>> predicted, one = np.abs(rng.normal(0, 2, n)), np.ones(n)
    >>> effect = np.where(rng.uniform(size=n) < 0.3, 0, predicted) + rng.standard_normal(n)
    >>> laws = fit_sign_law(Signs(np.arange(n) % 40, predicted, effect + rng.standard_normal(n), one, 0 * one, one, 0 * one))
    >>> len(laws.laws), round(laws.laws[-1].misplaced, 1)
    (4, 0.3)
    """
    if len(np.unique(signs.reference)) < least:
        return None
    usable = np.flatnonzero(signs.between + signs.noise > 0)
    if not len(usable):
        return None
    signs = signs.subset(usable)
    finite = signs.support[np.isfinite(signs.support)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    clipped = np.clip(signs.support, low, high)
    support = (low, float(clipped.mean()), high)
    signs = replace(signs, support=clipped - support[1])
    size = _size(signs.predicted, signs.between)
    edges = np.unique(np.quantile(size, CLASSES))
    of_class = np.searchsorted(edges, size)
    held = np.unique(of_class)  # where many sizes are the same a class may be empty
    return SignLaws(edges[held[:-1]], tuple(_fit_class(signs.subset(of_class == k)) for k in held), support)


def _size(predicted: np.ndarray, between: np.ndarray) -> np.ndarray:
    return np.abs(predicted) / np.sqrt(np.maximum(between, 1e-300))


def _fit_class(signs: Signs) -> SignLaw:
    """Maximum likelihood, but for the prior of b."""
    counts = np.bincount(signs.reference).astype(float)
    n_reference = float(counts.sum() ** 2 / (counts**2).sum())
    signs = signs.subset(np.arange(min(len(signs.reference), MAX_FITTED)))

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _law_of(parameters).gradient(signs)
        deviation = parameters[-1] / SUPPORT_SLOPE_SD
        gradient[-1] -= deviation / SUPPORT_SLOPE_SD / n_reference
        return -value + deviation**2 / 2 / n_reference, -gradient

    fit = optimize.minimize(loss, np.array(START), jac=True, method="L-BFGS-B", bounds=BOUNDS, options=PRECISE)
    law = _law_of(fit.x)
    return replace(law, misplaced=(n_reference * law.misplaced + 1) / (n_reference + 1))


def _law_of(parameters: np.ndarray) -> SignLaw:
    """Of the log odds of the misplaced, the logarithms of the next four, and b."""
    spread, scale, df, strength = map(float, np.exp(parameters[1:-1]))
    return SignLaw(float(special.expit(parameters[0])), spread, scale, df, strength, float(parameters[-1]))


def signs_of(rectifier: Rectifier, references: References, listable: np.ndarray) -> Signs:
    """Predictions and observations of references, each as if it had not been measured.

    Parameters
    ----------
    rectifier, references
        Fitted, and what it was fitted on.
    listable
        (G,) genes that enough cells express: the noise of others is not symmetric.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier
    >>> rng = np.random.default_rng(0)
    >>> seen = rng.standard_normal((20, 50))
    >>> references = References(seen, np.zeros((20, 50)), np.zeros(50), {"exact": seen})
    >>> signs = signs_of(fit_rectifier(references), references, np.ones(50, dtype=bool))
    >>> len(signs.reference), float(signs.disagrees.mean())
    (1000, 0.0)
    """
    rows = np.flatnonzero(rectifier.spread_from)
    has_sign = listable & ~references.is_own_gene & (rectifier.loo_predicted != 0)
    among, gene = np.nonzero(has_sign[rows])
    chosen = np.random.default_rng(0).permutation(len(among))[:MAX_SIGNS]
    at, gene = rows[among[chosen]], gene[chosen]
    own = references.variance + sum(rectifier.weights.values()) ** 2 * references.part_variance
    predicted, between = rectifier.loo_predicted[at, gene], rectifier.loo_between[at, gene]
    return Signs(
        reference=at,
        predicted=np.abs(predicted),
        agreement=np.sign(predicted) * references.effect[at, gene],
        between=between,
        carried=rectifier.control_variance[gene],
        noise=own[at, gene] + references.control_noise(rectifier.control_weight)[gene],
        support=supports(between, references.typical_noise[gene], _coherence_of(references)[at]),
    )


def _coherence_of(references: References) -> np.ndarray:
    """(K,) one where it is not known."""
    return np.ones(len(references.effect)) if references.coherence is None else references.coherence


# Are the signs of left-out references wrong as often as it was said, each said by the others?


N_GROUPS = 5
EDGES = np.linspace(0, 0.5, 11)  # of ten classes of lfsr


def left_out_signs(signs: Signs) -> pd.DataFrame:
    """Reliability of the local false sign rate: how often observed signs differ, beside how often they should.

    The sign law is fitted without a fifth of the references and asked about these. The truth is not known: an observation
    differs where the predicted sign is wrong, and by its own noise. ``expected`` reckons with both.

    Parameters
    ----------
    signs
        Of the references, see :func:`signs_of`; fewer than ten tell no law.

    Returns
    -------
    DataFrame
        One row a class of ``lfsr_from`` to ``lfsr_to``: ``n_references`` and ``n_signs`` in it, mean ``lfsr``, and the
        ``expected`` and ``observed`` share of signs that differ, with the standard error over references ``observed_se`` of
        their difference. NaN in classes without any.

    Examples
    --------
    >>> rng, n = np.random.default_rng(0), 20_000
    >>> predicted, one = np.abs(rng.normal(0, 2, n)), np.ones(n)
    >>> effect = np.where(rng.uniform(size=n) < 0.3, 0, predicted) + rng.standard_normal(n)
    >>> signs = Signs(np.arange(n) % 40, predicted, effect + rng.standard_normal(n), one, 0 * one, one, 0 * one)
    >>> table = left_out_signs(signs)
    >>> bool((table["observed"] - table["expected"]).abs().max() < 0.05)
    True
    """
    said, expected = (np.full(len(signs.reference), np.nan) for _ in range(2))
    for members, law in _of_others(signs):
        inside = np.isin(signs.reference, members)
        of = signs.subset(inside)
        said[inside] = law.wrong(of.predicted, of.between, of.carried, of.support)
        expected[inside] = law.wrong(of.predicted, of.between, of.noise, of.support)
    of_class = np.where(np.isnan(said), -1, np.digitize(said, EDGES[1:-1]))
    rows = [
        _of_class(*(values[of_class == k] for values in (signs.reference, said, expected, signs.disagrees)))
        for k in range(len(EDGES) - 1)
    ]
    return pd.DataFrame(rows).assign(lfsr_from=EDGES[:-1], lfsr_to=EDGES[1:])[
        ["lfsr_from", "lfsr_to", "n_references", "n_signs", "lfsr", "expected", "observed", "observed_se"]
    ]


def left_out_lfsr(rectifier: Rectifier, references: References, signs: Signs) -> np.ndarray:
    """Local false sign rates (K, G) of the references as if they were targets, by a sign law that the others tell.

    Those of own genes and of genes that cannot be listed are there, too, though the law does not speak of them.

    Parameters
    ----------
    rectifier, references
        Fitted, and what it was fitted on.
    signs
        Of its references, see :func:`signs_of`; references without any have NaN.

    Examples
    --------
    >>> from dbdiffusion.inference import References, fit_rectifier, signs_of
    >>> rng, G = np.random.default_rng(0), 60
    >>> seen = rng.standard_normal((40, G))
    >>> references = References(seen, np.zeros((40, G)), np.zeros(G), {"some": seen + rng.standard_normal((40, G))})
    >>> rectifier = fit_rectifier(references)
    >>> lfsr = left_out_lfsr(rectifier, references, signs_of(rectifier, references, np.ones(G, dtype=bool)))
    >>> wrong = np.sign(rectifier.loo_predicted) != np.sign(seen)
    >>> bool(abs(lfsr.mean() - wrong.mean()) < 0.03)
    True
    """
    lfsr = np.full(rectifier.loo_predicted.shape, np.nan)
    support = supports(rectifier.loo_between, references.typical_noise, _coherence_of(references)[:, None])
    for members, law in _of_others(signs):
        predicted, between = rectifier.loo_predicted[members], rectifier.loo_between[members]
        lfsr[members] = law.wrong(predicted, between, rectifier.control_variance, support[members])
    return lfsr


def _of_others(signs: Signs) -> Iterator[tuple[np.ndarray, SignLaws]]:
    """A fifth of the references, and the law that the others tell."""
    reference = np.unique(signs.reference)
    if len(reference) < MIN_REFERENCES_FOR_SHAPE:
        return
    for group in range(N_GROUPS):
        members = reference[group::N_GROUPS]
        law = fit_sign_law(signs.subset(~np.isin(signs.reference, members)), least=1)
        if law is not None:
            yield members, law


def _of_class(reference: np.ndarray, said: np.ndarray, expected: np.ndarray, disagrees: np.ndarray) -> dict[str, float]:
    n = len(said)
    if n == 0:
        return {"n_references": 0, "n_signs": 0, "lfsr": np.nan, "expected": np.nan, "observed": np.nan, "observed_se": np.nan}
    difference = disagrees - expected
    of_each = np.bincount(reference, difference - difference.mean())
    return {
        "n_references": len(np.unique(reference)),
        "n_signs": n,
        "lfsr": float(said.mean()),
        "expected": float(expected.mean()),
        "observed": float(disagrees.mean()),
        "observed_se": float(np.sqrt((of_each**2).sum()) / n),
    }
