import warnings

import numpy as np
import pandas as pd
import pytest

from dbdiffusion import ScreenWarning
from dbdiffusion._words import say
from dbdiffusion.data import say_other_totals, say_suspicions
from dbdiffusion.screen import NameRule

GENES = ["MYC", "SPI1", "GATA1", "HLA-A", "NKX2-1", "KLF1"]
SOUND = ["control"] * 3 + ["MYC", "SPI1", "GATA1", "MYC+SPI1"]


def said(labels, rule=None, var=None, vectors=()):
    var = pd.DataFrame(index=GENES) if var is None else var
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        say_suspicions(pd.Series(labels, dtype=object), rule or NameRule(), var, vectors)
    assert all(issubclass(one.category, ScreenWarning) for one in caught)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(
    "labels",
    [
        SOUND,
        [*SOUND, "DRUG", "HLA-A", "NKX2-1"],
        [*SOUND, "SPI1+MYC", "ctrl+MYC", "GATA1+control"],
        ["control", "control", "MYC", "drug 10 uM", "CD4+", "sgMYC_1", "KO-2"],
    ],
)
def test_of_sound_names_nothing_is_said(labels):
    assert said(labels) == []


@pytest.mark.parametrize("separator", ["_", ",", ";", "|", "&", "/", "-", ":", " ", "__"])
def test_another_separator_is_noticed(separator):
    labels = [label.replace("+", separator) for label in SOUND]
    (message,) = said(labels)
    assert f"combination_sep={separator!r}" in message
    assert f"'MYC{separator}SPI1'" in message
    assert said(labels, NameRule("control", separator)) == []


def test_pairs_of_perturbations_without_genes_are_noticed_too():
    labels = ["control", "control", "MYC", "DRUG1", "DRUG2", "DRUG1_DRUG2"]
    assert "combination_sep='_'" in said(labels)[0]


def test_genes_that_hold_another_separator_are_no_pairs():
    assert said([*SOUND, "HLA-A"]) == []
    assert said(["control", "control", "HLA-A", "HLA-A-MYC", "MYC"], NameRule("control", "-")) == []


@pytest.mark.parametrize(("twin", "cells"), [("myc", 2), ("Myc", 1), ("MYC ", 3), ("M YC", 1)])
def test_labels_that_differ_by_blanks_or_case_are_noticed(twin, cells):
    message = said([*SOUND, *[twin] * cells])[0]
    assert f"{twin!r} ({cells} cells)" in message
    assert "'MYC' (1 cells)" in message
    assert "blanks or case" in message


def test_look_alikes_of_control_and_of_pairs_are_noticed():
    assert "only 'control' is control" in said([*SOUND, "Control"])[0]
    assert "'spi1+myc'" in said([*SOUND, "spi1+myc"])[0]


def test_blanks_at_the_ends_are_noticed():
    (message,) = said([*SOUND, " KLF1"])
    assert "begin or end with blanks" in message


@pytest.mark.parametrize("word", ["nan", "None", "NA", "<NA>", "null", "NaN"])
def test_words_for_missing_are_noticed(word):
    (message,) = said([*SOUND, word, word])
    assert f"{word!r} (2 cells)" in message
    assert "missing" in message
    assert said([*SOUND, word], var=pd.DataFrame(index=[*GENES, word])) == []


def test_another_word_for_control_is_noticed():
    (message,) = said([*SOUND, "ctrl"])
    assert "control is called 'control'" in message
    assert "'control' (3 cells)" in said([*SOUND, "NT"], NameRule("NT"))[0]


def test_two_guides_against_one_gene_are_told_how_they_are_read():
    (message,) = said([*SOUND, "MYC+MYC", "control+control"])
    assert "'MYC+MYC' is read as 'MYC'" in message
    assert "control+control" not in message


def test_genes_in_another_case_are_noticed():
    mouse = pd.DataFrame(index=[gene.capitalize() for gene in GENES])
    (message,) = said(SOUND, var=mouse)
    assert "No perturbation is among `var_names`" in message
    assert "another case" in message
    few = pd.DataFrame(index=["MYC", *[gene.capitalize() for gene in GENES[1:]]])
    assert "Few perturbations" in said(SOUND, var=few)[0]


def test_genes_by_another_name_are_noticed_with_the_column_that_has_theirs():
    ensembl = pd.DataFrame({"symbol": GENES, "length": 1}, index=[f"ENSG{i:011d}" for i in range(len(GENES))])
    (message,) = said(SOUND, var=ensembl)
    assert "adata.var['symbol']" in message
    (message,) = said(SOUND, var=ensembl[["length"]])
    assert "Ensembl" in message
    (message,) = said(["control", "control", "drug"], var=pd.DataFrame(index=GENES))
    assert "embedding_key" in message


def test_with_vectors_of_their_own_perturbations_need_no_gene():
    assert said(["control", "control", "drug"], vectors=["drug", "other"]) == []
    assert said(["control", "control", "drug+other"], vectors=["drug"]) == []


def test_it_is_said_where_the_package_was_called():
    with pytest.warns(ScreenWarning, match="a word") as caught:
        say("a word")
    assert caught[0].filename == __file__


def said_of(obs, totals):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        say_other_totals(pd.DataFrame(obs), np.asarray(totals))
    return [str(one.message) for one in caught]


@pytest.mark.parametrize("name", ["total_counts", "nCount_RNA", "ncounts"])
def test_totals_of_more_genes_than_x_holds_are_noticed(name):
    (message,) = said_of({"day": 1, name: [500, 800, 900]}, [100, 200, 0])
    assert f"obs['{name}'] is 4.5 times the totals of X" in message
    assert f"`size_factor_key={name!r}`" in message


@pytest.mark.parametrize(
    ("name", "column"), [("total_counts", [100, 200]), ("total_counts", [110, 210]), ("depth", [500, 900]), ("n_umi", [5, 9]),
                         ("n_umi", ["a", "b"])]
)  # fmt: skip
def test_of_other_columns_nothing_is_said(name, column):
    assert said_of({name: column}, [100, 200]) == []
