import warnings

import numpy as np
import pytest

from dbdiffusion.inference import Estimate
from dbdiffusion.predict._answers import Answer, FewReferencesWarning, NotToldApartWarning, warn_of_few, warn_of_same


def answer(*, n_reference=20.0, told_apart=True, se=1.0):
    return Answer(Estimate(np.ones(3), np.full(3, se), np.ones(3)), 0.5, np.ones(3), n_reference, told_apart=told_apart)


def test_few_references_and_equal_answers_are_said_by_number_and_name():
    answers = {"A": answer(), "B": answer(n_reference=2.0), "C": answer(told_apart=False)}
    with pytest.warns(FewReferencesWarning, match="1 unseen perturbations \\('B'"):
        warn_of_few(answers)
    with pytest.warns(NotToldApartWarning, match="1 of 3 unseen perturbations \\('C'"):
        warn_of_same(answers)


def test_nothing_is_said_where_all_is_well_or_where_there_is_no_error_to_compare_with():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_few({"A": answer()})
        warn_of_same({"A": answer(), "B": answer(told_apart=False, se=np.nan)})
