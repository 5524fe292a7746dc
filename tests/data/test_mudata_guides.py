import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from dbdiffusion.data import call_perturbations

TARGETS = ["control", "A", "A", "B", "C"]


def guides(counts, **var):
    counts = np.asarray(counts, dtype=float)
    names = [f"guide{i}" for i in range(counts.shape[1])]
    var = pd.DataFrame(var or {"target": TARGETS}, index=names)
    return ad.AnnData(counts, obs=pd.DataFrame(index=[f"cell{i}" for i in range(len(counts))]), var=var)


@pytest.mark.parametrize(
    ("counts", "call"),
    [
        ([9, 0, 0, 0, 0], "control"),
        ([0, 9, 0, 0, 0], "A"),
        ([0, 9, 9, 0, 0], "A"),  # two guides, one target
        ([9, 9, 0, 0, 0], "A"),  # control beside a target is silent
        ([0, 0, 0, 9, 9], "B+C"),
        ([0, 9, 0, 9, 9], "A+B+C"),
        ([0, 0, 2, 0, 0], np.nan),  # too few counts
        ([0, 100, 0, 5, 0], "A"),  # too small a share
        ([0, 0, 0, 0, 0], np.nan),
    ],
)
def test_the_rule(counts, call):
    for matrix in (guides([counts]), ad.AnnData(sp.csr_matrix([np.array(counts, float)]), var=guides([counts]).var)):
        assert call_perturbations(matrix).iloc[0] is call or call_perturbations(matrix).iloc[0] == call


def test_order_of_guides_does_not_matter():
    rng = np.random.default_rng(0)
    screen = guides(rng.poisson(2, (50, 5)))
    turned = screen[:, ::-1].copy()
    pd.testing.assert_series_equal(call_perturbations(screen), call_perturbations(turned))


def test_thresholds_layer_separator_and_names_as_targets():
    screen = guides([[0, 2, 0, 0, 9]])
    assert call_perturbations(screen, min_counts=2).iloc[0] == "A+C"
    assert call_perturbations(screen, min_counts=2, min_share=0.5).iloc[0] == "C"
    assert call_perturbations(screen, min_counts=2, combination_sep="|").iloc[0] == "A|C"
    assert call_perturbations(screen, None, min_counts=2).iloc[0] == "guide1+guide4"
    screen.layers["turned"] = screen.X[:, ::-1].copy()
    assert call_perturbations(screen, layer="turned").iloc[0] == "control"


def test_the_guides_are_not_changed():
    screen = guides([[0, 2, 0, 0, 9]])
    before = screen.copy()
    call_perturbations(screen)
    assert np.array_equal(screen.X, before.X)
    pd.testing.assert_frame_equal(screen.obs, before.obs)


@pytest.mark.parametrize(
    ("change", "options", "error", "match"),
    [
        (lambda g: g, {"target_key": "gene"}, KeyError, "guide_target_key"),
        (lambda g: g, {"layer": "counts"}, KeyError, "guide_layer"),
        (lambda g: g.var.__setitem__("target", ["A", None, "B", "C", "D"]), {}, ValueError, "none"),
        (lambda g: g.var.__setitem__("target", ["A+B", "A", "B", "C", "D"]), {}, ValueError, "combination_sep"),
        (lambda g: setattr(g, "X", -g.X), {}, ValueError, "negative"),
        (lambda g: g, {"min_counts": 0}, ValueError, "min_guide_counts"),
        (lambda g: g, {"min_share": 1.5}, ValueError, "min_guide_share"),
    ],
)
def test_what_cannot_be_is_said(change, options, error, match):
    screen = guides([[1, 2, 3, 4, 5]])
    change(screen)
    with pytest.raises(error, match=match):
        call_perturbations(screen, **options)


@pytest.mark.parametrize("kind", [bool, np.float16, np.uint8, np.float32])
def test_an_assignment_of_guides_is_not_taken_for_counts(kind):
    screen = guides([[0, 1, 0, 1, 0], [1, 0, 0, 0, 0]])
    screen.X = screen.X.astype(kind)
    with pytest.raises(ValueError, match=r"matrix of 0 and 1.*min_guide_counts=1"):
        call_perturbations(screen)
    assert call_perturbations(screen, min_counts=1).tolist() == ["A+B", "control"]


@pytest.mark.parametrize(
    ("option", "value"), [("min_counts", "3"), ("min_counts", None), ("min_share", "x"), ("min_counts", True)]
)
def test_thresholds_are_numbers(option, value):
    with pytest.raises(TypeError, match=f"min_guide_{option[4:]}"):
        call_perturbations(guides([[9, 0, 0, 0, 0]]), **{option: value})


def test_a_matrix_of_text_is_refused():
    screen = guides([[9, 0, 0, 0, 0]])
    screen.layers["words"] = screen.X.astype(str)
    with pytest.raises(ValueError, match="numbers"):
        call_perturbations(screen, layer="words")
