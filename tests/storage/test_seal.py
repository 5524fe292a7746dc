import numpy as np
import pytest
import torch

from dbdiffusion.storage._seal import MARK, check_companion, check_whole, checksum, seal

CONTENT = {"weights": torch.arange(30.0), "codes": torch.ones(7, dtype=torch.int64), "attributes": {"names": ["a", "b"]}}


@pytest.fixture
def file(tmp_path):
    torch.save(CONTENT, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def same(loaded):
    return loaded.keys() == CONTENT.keys() and all(
        torch.equal(value, loaded[name]) if isinstance(value, torch.Tensor) else value == loaded[name]
        for name, value in CONTENT.items()
    )


def flips(content, n):
    """Some flipped bits, and all those of the headers of the archive that tell where things are."""
    rng = np.random.default_rng(0)
    directory = content.find(b"PK\x01\x02")
    places = [*rng.integers(len(content), size=n), *rng.integers(directory, len(content), size=n)]
    for place in places:
        bit = int(rng.integers(8))
        yield content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def test_a_sealed_checkpoint_reads_as_before_and_knows_its_companions(file):
    cells = file.with_name("adata.h5ad")
    cells.write_bytes(b"cells")
    seal(file, [cells])
    assert same(torch.load(file, weights_only=False))
    known = check_whole(file)
    assert known == {"adata.h5ad": checksum(cells)}
    check_companion(cells, known)
    check_companion(file.with_name("another"), known)
    cells.write_bytes(b"other")
    with pytest.raises(ValueError, match="not the file that was saved with the model"):
        check_companion(cells, known)


@pytest.mark.parametrize("sealed", [True, False])
def test_no_flipped_bit_reads_as_something_else(file, request, sealed):
    if sealed:
        seal(file)
    content, refused = file.read_bytes(), 0
    for flipped in flips(content, 2000 if request.config.getoption("--slow") else 200):
        file.write_bytes(flipped)
        try:
            check_whole(file)
        except ValueError as error:
            assert "no whole checkpoint" in str(error)  # noqa: PT017  most flips are refused, those of no effect are not
            refused += 1
            continue
        try:
            loaded = torch.load(file, weights_only=False)
        except RuntimeError:
            continue
        assert same(loaded)
    assert refused


def test_the_mark_of_unsealed_folders_in_the_archive_is_seen(file):
    """Torch reads nothing of such a member, and takes the memory as it is."""
    content = bytearray(file.read_bytes())
    entry = content.find(b"PK\x01\x02", content.find(b"PK\x01\x02") + 1)
    content[entry + 38] ^= 0x10
    file.write_bytes(content)
    with pytest.raises(ValueError, match="not as it was written"):
        check_whole(file)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_checkpoint_that_is_cut_off_says_so(file, sealed):
    if sealed:
        seal(file)
    content = file.read_bytes()
    for left in (0, 1, len(content) // 2, len(content) - 100, len(content) - 10):
        file.write_bytes(content[:left])
        with pytest.raises(ValueError, match="no whole checkpoint"):
            check_whole(file)


def test_torchs_format_of_before_can_be_sealed(file):
    torch.save(CONTENT, file, _use_new_zipfile_serialization=False)
    seal(file)
    assert check_whole(file) == {}
    assert same(torch.load(file, weights_only=False))
    file.write_bytes(file.read_bytes().replace(b"weights", b"weightz"))
    with pytest.raises(ValueError, match="checksum"):
        check_whole(file)


def test_a_seal_is_made_anew_for_a_file_that_was_read_and_written_again(file):
    seal(file)
    torch.save({"a": 1}, file)
    assert MARK not in file.read_bytes()
    assert check_whole(file) == {}
