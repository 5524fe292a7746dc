import pytest

from dbdiffusion.embedding import parts_of


@pytest.mark.parametrize(
    ("name", "separator", "parts"),
    [
        ("A+B", "+", ("A", "B")),
        ("A + B+C", "+", ("A", "B", "C")),
        ("A", "+", ("A",)),
        ("A+B", "_", ("A+B",)),
        ("A_B", "_", ("A", "B")),
        ("A+B", "", ("A+B",)),
        ("HLA-A", "-", ("HLA-A",)),
        ("HLA-A-B", "-", ("HLA", "A", "B")),
    ],
)
def test_a_name_is_split_at_the_separator_unless_it_is_a_gene(name, separator, parts):
    assert parts_of(name, separator, {"A", "HLA-A"}) == parts
