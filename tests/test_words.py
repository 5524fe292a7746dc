import numpy as np
import pytest
import torch

from dbdiffusion._words import choice, known_word, real_number, whole_number, word

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("value", [3, 3.0, np.int64(3), np.uint8(3), np.float32(3), np.array(3), torch.tensor(3)])
def test_whole_numbers_of_any_type_become_pythons_own(value):
    assert whole_number("seed", value) == 3
    assert type(whole_number("seed", value)) is int


@pytest.mark.parametrize(
    "value", [None, "3", b"3", True, np.bool_(True), 3.5, NAN, INF, -1, [3], np.array([3, 4]), 3j, object()]
)
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ValueError, match="`seed` must be a whole number, at least 0"):
        whole_number("seed", value)


def test_limits_of_whole_numbers_are_said():
    assert whole_number("n_folds", 5, 2, 5) == 5
    with pytest.raises(ValueError, match=r"from 2 to 5, got 6"):
        whole_number("n_folds", 6, 2, 5)
    assert whole_number("seed", 10**30) == 10**30


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)])
def test_real_numbers_of_any_type_become_pythons_own(value):
    assert real_number("lam", value, 0) == 0.5
    assert type(real_number("lam", value)) is float


@pytest.mark.parametrize("value", [None, "0.5", NAN, INF, -INF, -0.1, 1.1, [0.5, 0.5], 0.5j, object()])
def test_what_is_no_number_inside_the_limits_is_refused(value):
    with pytest.raises(ValueError, match="`confidence` must be a finite number"):
        real_number("confidence", value, 0, 1)


def test_strict_limits_are_outside():
    assert real_number("confidence", 1, 0, 1) == 1
    for value in (0, 1):
        with pytest.raises(ValueError, match="strictly between 0 and 1"):
            real_number("confidence", value, 0, 1, strictly=True)


def test_words_and_choices():
    assert type(word("fdr", np.str_("all"), ("all", "target"))) is str
    for value in ("none", None, 3, ["all"], np.array(["all", "all"])):
        with pytest.raises(ValueError, match="`fdr` must be one of"):
            word("fdr", value, ("all", "target"))
    assert choice("shrink", np.bool_(True)) is True
    for value in ("no", None, 1, 0.0):
        with pytest.raises(ValueError, match="True or False"):
            choice("shrink", value)


def test_a_word_of_the_users_own_gets_close_ones():
    assert known_word("batch", "lane1", ["lane1", "lane2"]) == "lane1"
    with pytest.raises(ValueError, match=r"`batch` must be one of .*got 'lane3'.*lane1"):
        known_word("batch", "lane3", ["lane1", "other"])
    with pytest.raises(ValueError, match="got None"):
        known_word("batch", None, ["lane1"])
