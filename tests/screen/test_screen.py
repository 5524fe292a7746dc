from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tiny import screen_of_effects

from dbdiffusion.screen import GeneSpace, LeftOut, Screen, SpaceWithout, perturbation_folds, spaces_needed

G, R = 11, 3
GENES = [f"G{i:02d}" for i in range(G)]
EARLIER = ("G00", "G01", "G02", "G03", "G00+G01")


def parts(name):
    return tuple(name.split("+"))


def measured(names, seed=0, *, folds=True):
    rng = np.random.default_rng(seed)
    genes = GeneSpace(pd.Index(GENES), rng.standard_normal((G, R)).astype(np.float32).astype(float))
    screen = screen_of_effects(names, rng.standard_normal((len(names), G)), genes)
    if not folds:
        return screen
    of_names = {name: parts(name) for name in names}
    excluded, inner = spaces_needed(perturbation_folds(of_names), of_names)
    spaces = tuple(SpaceWithout(one, screen.vectors, np.full(G, 0.5)) for one in excluded)
    return replace(screen, left_out=LeftOut(perturbation_folds(of_names), spaces, inner))


@pytest.fixture
def later():
    return measured(("G03", "G04", "G05", "G01+G04", "G01+G00"), seed=1, folds=False)


@pytest.fixture
def extended(later):
    first = measured(EARLIER)
    known = {tuple(sorted(parts(name))) for name in first.names}
    return first.extended(later, lambda name: tuple(sorted(parts(name))) in known, parts)


def same(one, other):
    for name in ("names", "control", "separator", "depth_per_library", "n_axes"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("var_names", "vectors", "library"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name, values in one.observed.__dict__.items():  # tables of genes are kept in single precision
        np.testing.assert_allclose(values, getattr(other.observed, name), rtol=1e-6, err_msg=name)
    assert one.covariates.keys() == other.covariates.keys()
    assert (one.left_out is None) == (other.left_out is None)
    if one.left_out is not None:
        assert (one.left_out.folds, one.left_out.inner) == (other.left_out.folds, other.left_out.inner)
        for mine, its in zip(one.left_out.spaces, other.left_out.spaces, strict=True):
            np.testing.assert_array_equal(mine.vectors, its.vectors)


@pytest.mark.parametrize("folds", [True, False])
def test_plain_values_hold_all_of_it(folds):
    screen = measured(EARLIER, folds=folds)
    again = Screen.from_dict(screen.to_dict())
    same(again, screen)
    twice = Screen.from_dict(again.to_dict())
    for name, values in vars(again.observed).items():  # what was rounded stays
        np.testing.assert_array_equal(getattr(twice.observed, name), values)
    assert twice.observed.effect.dtype == np.float64


def test_one_that_was_saved_before_there_were_folds_has_none():
    values = measured(EARLIER).to_dict()
    del values["left_out"], values["n_axes"]
    screen = Screen.from_dict(values)
    assert screen.left_out is None
    assert screen.n_axes is None
    assert values.keys() == screen.to_dict().keys() - {"left_out", "n_axes"}  # what was handed in is as it was


def test_gene_space_has_the_names_of_the_genes():
    screen = measured(EARLIER)
    assert list(screen.genes.names) == GENES
    assert screen.genes.vectors is screen.vectors
    assert screen.genes is screen.genes  # its clusters are dear


def test_a_later_screen_adds_what_is_new_behind_what_was_known(extended, later):
    first = measured(EARLIER)
    assert extended.names == (*EARLIER, "G04", "G05", "G01+G04")
    assert extended.n_axes == len(EARLIER)
    np.testing.assert_array_equal(extended.observed.effect[: len(EARLIER)], first.observed.effect)
    np.testing.assert_array_equal(extended.observed.effect[len(EARLIER) :], later.observed.effect[[1, 2, 3]])
    np.testing.assert_array_equal(extended.vectors, first.vectors)
    assert extended.library is later.library


def test_axes_stay_those_of_the_first_screen_however_often_it_is_extended(extended):
    third = measured(("G06", "G07"), seed=2, folds=False)
    again = extended.extended(third, lambda _: False, parts)
    assert again.n_axes == len(EARLIER)
    assert again.names == (*extended.names, "G06", "G07")


def test_everyone_is_scored_once_in_an_extended_screen(extended):
    scored = [name for fold in extended.left_out.folds for name in fold.scored]
    assert sorted(scored) == sorted(extended.names)
    for fold, space in zip(extended.left_out.folds, extended.left_out.spaces, strict=False):
        assert set(fold.scored) <= set(fold.excluded) == set(space.excluded)


def test_a_screen_without_folds_is_extended_without_folds(later):
    assert measured(EARLIER, folds=False).extended(later, lambda _: False, parts).left_out is None


def test_an_extended_screen_comes_back_from_plain_values(extended):
    again = Screen.from_dict(extended.to_dict())
    same(again, extended)
    for mine, its in zip(extended.left_out.spaces, again.left_out.spaces, strict=True):
        np.testing.assert_array_equal(its.noise, mine.noise)
