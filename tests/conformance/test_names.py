"""One perturbation has one name, whatever the order of its parts, with control beside it or not, wherever it is asked for."""

import re

import mudata
import numpy as np
import pandas as pd
import pytest
from dressed import briefly, fresh
from tiny import tiny_model, tiny_screen

from dbdiffusion import DBDiffusion, ScreenWarning
from dbdiffusion.data import hold_out

QUICK = {"n_cells": 8, "n_steps": 3}
SIZES = {"n_perturbations": 6, "n_combinations": 3}


def labels_of(adata):
    return adata.obs["perturbation"].astype(str).to_numpy(dtype=object)


def relabelled(adata, labels):
    adata = adata.copy()
    adata.obs["perturbation"] = pd.Categorical(labels)
    return adata


def turned(name):
    return "+".join(reversed(name.split("+")))


def mixed(adata, share=3):
    """Every third cell of a combination has its parts in the other order."""
    labels = labels_of(adata)
    for name in {label for label in labels if "+" in label}:
        cells = np.flatnonzero(labels == name)[::share]
        labels[cells] = turned(name)
    return relabelled(adata, labels)


@pytest.fixture(scope="module")
def screen():
    adata = tiny_screen(**SIZES)
    del adata.uns["true_effects"]
    return adata


@pytest.fixture(scope="module")
def pairs(screen):
    return sorted(label for label in set(labels_of(screen)) if "+" in label)


@pytest.fixture(scope="module")
def model(screen):
    """Of both orders; tests must not change it."""
    return briefly(fresh(mixed(screen)))


@pytest.fixture(scope="module")
def gears(screen):
    """As GEARS names them."""
    labels = ["ctrl" if label == "control" else label if "+" in label else f"{label}+ctrl" for label in labels_of(screen)]
    return briefly(fresh(relabelled(screen, labels), {"batch_key": "batch", "control": "ctrl"}))


def test_both_orders_are_one_perturbation_with_all_its_cells(model, screen, pairs):
    assert [name for name in model.perturbation_names if "+" in name] == pairs
    right = fresh(screen)
    pd.testing.assert_frame_equal(model.observed_effects(), right.observed_effects())


def test_the_registered_labels_stay_as_they_are(screen):
    adata = mixed(screen)
    before = adata.obs[["perturbation", "batch"]].copy()
    DBDiffusion.setup_anndata(adata)
    pd.testing.assert_frame_equal(adata.obs[before.columns], before)


def test_an_answer_does_not_depend_on_the_order_asked(model, pairs):
    unseen = "GENE55+GENE44"
    for name in (pairs[0], unseen):
        one, other = (model.predict_effects(asked, **QUICK) for asked in (name, turned(name)))
        pd.testing.assert_series_equal(one["effect"], other["effect"])
        pd.testing.assert_series_equal(one["se"], other["se"])
        cells, same = (model.generate(asked, **QUICK) for asked in (name, turned(name)))
        assert (cells.X != same.X).nnz == 0
        both = model.predict_effects([name, turned(name)], **QUICK)
        assert len(both) == len(one)
        assert model.strategy_of(name) in (model.strategy_of(turned(name)), "knn+ridge", "ridge+knn")
    assert set(model.predict_effects(turned(pairs[0]), **QUICK)["target"]) == {pairs[0]}
    assert set(model.generate(turned(pairs[0]), **QUICK).obs["perturbation"]) == {pairs[0]}


def test_hold_out_takes_every_order(screen, pairs):
    adata = mixed(screen)
    n_cells = int((labels_of(screen) == pairs[0]).sum())
    for asked in (pairs[0], turned(pairs[0]), f"{pairs[0]}+ctrl"):
        rest, cells = hold_out(adata, asked)
        assert cells.n_obs == n_cells
        assert set(labels_of(cells)) == {pairs[0], turned(pairs[0])}
        assert not set(labels_of(rest)) & set(labels_of(cells))
    with pytest.raises(KeyError, match=re.escape(f"Did you mean '{pairs[0]}'")):
        hold_out(adata, pairs[0].lower())


def test_hold_out_by_another_separator_and_control(screen, pairs):
    labels = [label.replace("+", "_").replace("control", "NT") for label in labels_of(mixed(screen))]
    name = pairs[0].replace("+", "_")
    _, cells = hold_out(relabelled(screen, labels), f"{name}_NT", control="NT", combination_sep="_")
    assert {"_".join(sorted(label.split("_"))) for label in labels_of(cells)} == {"_".join(sorted(name.split("_")))}


def test_what_was_left_out_is_not_predicted_by_its_other_order(screen, pairs):
    rest, _ = hold_out(mixed(screen), pairs[0])
    table = briefly(fresh(rest)).predict_effects(pairs[0], **QUICK)
    assert set(table["status"]) == {"unseen"}


def test_new_cells_get_the_code_of_the_other_order(model, screen, pairs):
    right = model.get_latent_representation()
    other = relabelled(screen, [turned(label) for label in labels_of(screen)])
    assert np.array_equal(model.get_latent_representation(other), right)
    codes = model.get_anndata_manager(other).get_from_registry("perturbation")
    assert np.array_equal(codes, model.adata_manager.get_from_registry("perturbation"))
    query = DBDiffusion.load_query_data(relabelled(screen, [turned(label) for label in labels_of(screen)]), model)
    assert query.perturbation_names == model.perturbation_names


def test_a_registered_one_is_not_added_in_another_order(model, pairs):
    for again in (turned(pairs[0]), f"{pairs[0]}+ctrl"):
        with pytest.raises(ValueError, match="registered already"):
            model.add_perturbations([again])
    with pytest.raises(ValueError, match="registered already"):
        model.add_perturbations(["GENE44+GENE55", "GENE55+GENE44"])


def test_control_is_no_part(gears, screen, pairs):
    plain = fresh(screen)
    assert gears.perturbation_names == plain.perturbation_names
    columns = ["target", "variable", "effect", "se", "p_value"]
    pd.testing.assert_frame_equal(gears.observed_effects()[columns], plain.observed_effects()[columns])
    single = next(name for name in gears.perturbation_names if "+" not in name)
    for asked in (single, f"{single}+ctrl", f"ctrl+{single}", f"control+{single}"):
        table = gears.predict_effects(asked, **QUICK)
        assert set(table["target"]) == {single}
        assert set(table["status"]) == {"measured"}
    for asked in ("GENE55", "GENE55+ctrl", "ctrl+GENE55", "GENE55+GENE44+ctrl"):
        table = gears.predict_effects(asked, **QUICK)
        assert set(table["status"]) == {"unseen"}
        assert np.isfinite(table["se"]).all()
    assert gears.generate("ctrl", **QUICK).n_obs == gears.generate("ctrl+ctrl", **QUICK).n_obs == 8
    with pytest.raises(ValueError, match="compared with"):
        gears.predict_effects("ctrl+ctrl", **QUICK)
    _, cells = hold_out(gears.adata, single, control="ctrl")
    assert set(labels_of(cells)) == {f"{single}+ctrl"}


def test_two_guides_against_one_gene_are_one_perturbation_and_that_is_said(screen, model):
    single = next(name for name in model.perturbation_names if "+" not in name)
    labels = [f"{label}+{label}" if label in (single, "control") else label for label in labels_of(screen)]
    with pytest.warns(ScreenWarning, match=rf"'{single}\+{single}' is read as '{single}'.*double dose"):
        DBDiffusion.setup_anndata(adata := relabelled(screen, labels))
    assert tiny_model(adata).perturbation_names == fresh(screen).perturbation_names
    with pytest.warns(ScreenWarning, match="double dose"):
        twice = model.predict_effects(f"{single}+{single}", **QUICK)
    pd.testing.assert_frame_equal(twice, model.predict_effects(single, **QUICK))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda label: label.replace("+", "_"), "combination_sep='_'"),
        (lambda label: label.lower() if label == "GENE01" else label, "blanks or case"),
        (lambda label: "nan" if "+" in label else label, "missing"),
        (lambda label: label.lower(), "another case"),
    ],
)
def test_set_up_says_what_may_be_meant_otherwise(screen, change, match):
    labels = labels_of(screen)
    labels[labels == next(label for label in labels if label != "control" and "+" not in label)] = "GENE01"
    labels[np.flatnonzero(labels == "GENE01")[0]] = "GENE01" if "blanks" not in match else "Gene01"
    adata = relabelled(screen, [change(label) if label != "Gene01" else label for label in labels])
    with pytest.warns(ScreenWarning, match=match):
        DBDiffusion.setup_anndata(adata)


def test_nothing_is_said_of_cells_that_come_to_a_model(model, screen, recwarn):
    model.get_latent_representation(screen.copy())
    DBDiffusion.setup_anndata(screen.copy())
    assert not [one for one in recwarn if issubclass(one.category, ScreenWarning)]


def test_a_separator_inside_the_names_of_genes(screen):
    adata = screen.copy()
    adata.var_names = [f"GENE-{name[4:]}" for name in adata.var_names]
    labels = [label.replace("GENE", "GENE-").replace("+", "-") for label in labels_of(screen)]
    model = fresh(relabelled(adata, labels), {"combination_sep": "-"})
    assert [name.replace("-", "") for name in model.perturbation_names] == [
        name.replace("+", "") for name in fresh(screen).perturbation_names
    ]
    briefly(model)
    pair = next(name for name in model.perturbation_names if name.count("-") == 3)
    assert len(model.parts_of(pair)) == 2
    assert model.parts_of("GENE-01") == ("GENE-01",)
    assert set(model.predict_effects("GENE-55-GENE-44", **QUICK)["status"]) == {"unseen"}


def test_hints_find_another_case_and_say_of_what_kind_a_name_is(model):
    measured = next(name for name in model.perturbation_names if "+" not in name)
    with pytest.raises(KeyError, match=f"the measured perturbation '{measured}'"):
        model.predict_effects(measured.lower(), **QUICK)
    with pytest.raises(KeyError, match="the gene 'GENE55'"):
        model.predict_effects("gene55", **QUICK)
    with pytest.raises(KeyError, match="the gene 'GENE55'"):
        model.generate(f"{measured}+Gene55", **QUICK)


@pytest.fixture(scope="module")
def with_vectors(screen, pairs):
    adata = screen.copy()
    names = [name for name in fresh(screen).perturbation_names if "+" not in name]
    table = pd.DataFrame(np.random.default_rng(0).standard_normal((len(names) + 2, 3)) * [1, 10, 100], columns=list("xyz"))
    adata.uns["vectors"] = table.set_axis([*names, "drug", f"{turned(pairs[0])}"])
    model = briefly(fresh(adata, {"embedding_key": "vectors"}))
    model.set_strategy("table")
    return model


def test_a_vector_of_a_combination_places_it(with_vectors, pairs):
    model, own = with_vectors, pd.DataFrame([[3.0, -20.0, 50.0]], index=["drug+GENE55"], columns=list("xyz"))
    with pytest.raises(KeyError, match="GENE55"):
        model.predict_effects("drug+GENE55", **QUICK)
    first, second = model.perturbation_names[:2]
    summed = model.predict_effects(f"drug+{first}", lam=1.0, **QUICK)["effect"]
    model.add_perturbations(["GENE55+drug"], own)
    assert model.strategy_of("drug+GENE55") == "table"
    assert np.isfinite(model.predict_effects("GENE55+drug", **QUICK)["effect"]).all()
    model.add_perturbations([f"{first}+drug"], own.set_axis([f"drug+{first}"]))
    rows = model.perturbation_embeddings()
    np.testing.assert_allclose(rows.loc[f"{first}+drug"], rows.loc["GENE55+drug"])
    assert not np.allclose(model.predict_effects(f"drug+{first}", lam=1.0, **QUICK)["effect"], summed)
    assert model.strategy_of(f"{first}+{second}") == "measured+measured"


def test_vectors_are_aligned_by_the_names_of_their_columns(with_vectors, screen):
    model = with_vectors
    vector = pd.DataFrame([[0.5, 5.0, -50.0]], columns=list("xyz"))
    model.add_perturbations(["one"], vector.set_axis(["one"]))
    model.add_perturbations(["two"], vector.set_axis(["two"])[list("zxy")])
    rows = model.perturbation_embeddings()
    np.testing.assert_array_equal(rows.loc["one"], rows.loc["two"])
    for columns in (list("abc"), list("xya"), [0, 1, 2]):
        with pytest.raises(ValueError, match="columns"):
            model.add_perturbations(["three"], vector.set_axis(["three"]).set_axis(columns, axis=1))
    assert "three" not in model.perturbation_names
    other = screen.copy()
    other.uns["vectors"] = vector.set_axis(["four"])[list("yzx")]
    query = DBDiffusion.load_query_data(other, model)
    pd.testing.assert_series_equal(query._user_vectors().loc["one"], query._user_vectors().loc["one"].reindex(list("xyz")))
    other.uns["vectors"] = vector.set_axis(["five"]).set_axis(list("uvw"), axis=1)
    with pytest.raises(ValueError, match="columns"):
        DBDiffusion.load_query_data(other, model)


def test_mudata_reads_names_alike(screen, pairs):
    rna = mixed(screen)
    mdata = mudata.MuData({"rna": rna})
    DBDiffusion.setup_mudata(mdata, modalities={"rna_layer": "rna", "perturbation_key": "rna"})
    model = tiny_model(mdata)
    assert [name for name in model.perturbation_names if "+" in name] == pairs
    pd.testing.assert_frame_equal(model.observed_effects(), fresh(screen, {}).observed_effects())


def test_contexts_read_names_alike(screen, pairs):
    adata = mixed(screen)
    adata.obs["time"] = np.where(np.arange(adata.n_obs) % 2, "early", "late")
    model = briefly(fresh(adata, {"context_key": "time"}))
    one, other = (model.in_context("late").predict_effects(asked, **QUICK) for asked in (pairs[0], turned(pairs[0])))
    pd.testing.assert_frame_equal(one, other)
