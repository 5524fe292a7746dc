"""Warnings of unseen targets: too few references for an interval, or an answer that any target would get."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbdiffusion._words import say
from dbdiffusion.inference import MIN_REFERENCES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dbdiffusion.predict._answers import Answer


class FewReferencesWarning(UserWarning):
    """Fewer than three reference perturbations: a point estimate can be had, an interval cannot.

    Examples
    --------
    >>> issubclass(FewReferencesWarning, UserWarning)
    True
    """


class NotToldApartWarning(UserWarning):
    """Unseen perturbations get the answer that any other would get: the screen says nothing of how they differ.

    Examples
    --------
    >>> issubclass(NotToldApartWarning, UserWarning)
    True
    """


def warn_of_few(answers: Mapping[str, Answer]) -> None:
    """Say which answers have too few references for an interval, if any."""
    few = {name: answer.n_reference for name, answer in answers.items() if answer.n_reference < MIN_REFERENCES}
    if few:
        name, n = next(iter(few.items()))
        say(
            f"{len(few)} unseen perturbations ({name!r}, ...) have fewer than {MIN_REFERENCES} reference "
            f"perturbations ({n:.0f}), at least {MIN_REFERENCES} are needed for an interval, so their effects come without "
            "errors and p-values. Measure more perturbations whose genes are in `var_names`, or give vectors.",
            FewReferencesWarning,
        )


def warn_of_same(answers: Mapping[str, Answer]) -> None:
    """Say which answers any other target would get too, if any; those without errors cannot be compared."""
    same = [name for name, answer in answers.items() if not answer.told_apart and np.isfinite(answer.estimate.se).any()]
    if same:
        say(
            f"{len(same)} of {len(answers)} unseen perturbations ({same[0]!r}, ...) get the answer that any other would get: "
            "what the measured perturbations have in common. This screen does not tell them apart, see "
            "`model.embedding_scores()` and `model.calibration()`.",
            NotToldApartWarning,
        )
