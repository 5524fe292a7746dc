from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbdiffusion.screen import NameRule, canonical_names, close_names, meant, split_name
from dbdiffusion.screen._names import meant_of

GENES = {"HLA-A", "HLA-DRB1", "NKX2-1", "A-", "C+D"}


@pytest.mark.parametrize(
    ("name", "separator", "parts"),
    [
        ("A", "+", ("A",)),
        ("A+B", "+", ("A", "B")),
        ("B + A", "+", ("B", "A")),
        ("A+B", "", ("A+B",)),
        ("A_B", "_", ("A", "B")),
        ("A++B", "++", ("A", "B")),
        ("C+D", "+", ("C+D",)),
        ("HLA-A", "-", ("HLA-A",)),
        ("HLA-A-TP53", "-", ("HLA-A", "TP53")),
        ("TP53-HLA-A", "-", ("TP53", "HLA-A")),
        ("HLA-A-HLA-DRB1-NKX2-1", "-", ("HLA-A", "HLA-DRB1", "NKX2-1")),
        ("HLA-B", "-", ("HLA", "B")),
        ("CD4+", "+", ("CD4+",)),
        ("+", "+", ("+",)),
        ("A++B", "+", ("A++B",)),
        ("", "+", ("",)),
    ],
)
def test_names_are_cut_at_separators_but_genes_are_not(name, separator, parts):
    assert split_name(name, separator, GENES) == parts


@pytest.mark.parametrize("control", ["control", "ctrl", "NT", "non-targeting"])
@pytest.mark.parametrize("separator", ["+", "_", "-", " & "])
def test_control_is_no_part_whatever_it_is_called(control, separator):
    rule = NameRule(control, separator)
    for word in {control, "control", "ctrl"}:
        for name in (f"A{separator}{word}", f"{word}{separator}A", f"{word}{separator}A{separator}{word}"):
            assert rule.clean(name) == "A"
            assert rule.key(name) == rule.key("A")
    assert rule.clean(f"{control}{separator}{control}") == control
    assert rule.clean(control) == control
    assert rule.clean(f"A{separator}{control}{separator}B") == f"A{separator}B"


def test_a_part_counts_once():
    rule = NameRule()
    assert rule.clean("A+A") == "A"
    assert rule.clean("A+B+A") == "A+B"
    assert [name for name in ("A+A", "A+B", "A+B+A", "A+ctrl", "ctrl+ctrl", "A") if rule.repeats(name)] == ["A+A", "A+B+A"]


PARTS = st.lists(st.sampled_from(["A", "B", "HLA-A", "ctrl", "C "]), min_size=1, max_size=4)


@given(PARTS, st.sampled_from(["+", "-", "_"]))
def test_all_orders_of_all_parts_are_one_perturbation(parts, separator):
    rule = NameRule("NT", separator, {"HLA-A"})
    names = [separator.join(order) for order in permutations(parts)]
    assert len({rule.key(name) for name in names}) == 1
    assert len(set(canonical_names(dict.fromkeys(names, 1), rule).values())) == 1
    clean = rule.clean(names[0])
    assert rule.clean(clean) == clean
    assert rule.key(clean) == rule.key(names[0])


def test_the_name_is_the_one_that_most_cells_have():
    sizes = {"A+B": 3, "B+A": 4, "A": 1, "A+ctrl": 9, "D+C": 2, "C+D": 2}
    assert canonical_names(sizes, NameRule()) == {
        "A+B": "B+A", "B+A": "B+A", "A": "A", "A+ctrl": "A", "D+C": "C+D", "C+D": "C+D",
    }  # fmt: skip
    assert canonical_names({"B+A": 3, "A+B+ctrl": 4}, NameRule())["B+A"] == "A+B"


@pytest.mark.parametrize(("name", "close"), [("gene03", "GENE03"), (" Gene03 ", "GENE03"), ("Xyzzy", None)])
def test_hints_see_through_case_and_blanks(name, close):
    known = [f"GENE{i:02d}" for i in range(40)]
    found = close_names(name, known)
    assert (found[0] if found else None) == close
    assert (repr(close) in meant(name, known)) if close else meant(name, known) == ""


def test_hints_say_of_what_kind_a_name_is():
    hint = meant_of("myc", {"measured perturbation": ["MYC"], "gene": ["MYC", "MYCN"], "vector of": ["SPI1"]})
    assert hint == " Did you mean the measured perturbation 'MYC' or the gene 'MYCN'?"
    assert meant_of("xyz", {"gene": ["MYC"]}) == ""


@pytest.mark.parametrize("odd", [0, None, b"+", ["+"]])
def test_a_separator_is_text(odd):
    with pytest.raises(ValueError, match="separator of combinations must be text"):
        NameRule(separator=odd)
