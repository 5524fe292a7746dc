"""Laws of lists of targets in files: names as they stand there, and words for what is no list."""

import pytest

from dbdiffusion.job._asked import listed_targets


def test_names_keep_their_order_and_what_is_inside_of_them(tmp_path):
    file = tmp_path / "targets.txt"
    file.write_bytes("\ufeffMYC\r\n\r\n JUN + FOS \nMYC\nHLA-A".encode())
    assert listed_targets(file) == ["MYC", "JUN + FOS", "HLA-A"]


@pytest.mark.parametrize(("content", "words"), [(b"\n \n", "names no perturbation"), (b"\xff\xfe\x00", "is no text")])
def test_what_is_no_list_is_refused(tmp_path, content, words):
    file = tmp_path / "targets.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        listed_targets(file)
