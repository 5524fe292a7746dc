"""A bit that flips in a saved file is noticed, or changes nothing: no file loads into another answer."""

import numpy as np
import pytest
import torch

from dbdiffusion import DBDiffusion

FEW, MANY = 12, 200


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    trained.save(folder / "checkpoint", save_anndata=True)
    trained.export_weights(folder / "weights")
    return folder


@pytest.fixture(scope="module")
def plain(saved):
    """The checkpoint as scvi-tools itself writes it, without a seal."""
    content = torch.load(saved / "checkpoint" / "model.pt", weights_only=False)
    (saved / "plain").mkdir()
    torch.save(content, saved / "plain" / "model.pt")
    return saved / "plain"


def answers(model):
    return {**model.module.state_dict(), "effects": torch.as_tensor(model._screen().observed.effect)}


def flips(content, n, seed):
    rng = np.random.default_rng(seed)
    for place in rng.integers(len(content), size=n):
        yield content[:place] + bytes([content[place] ^ (1 << int(rng.integers(8)))]) + content[place + 1 :]


def count_refused(file, load, right, n):
    content, refused = file.read_bytes(), 0
    try:
        for flipped in flips(content, n, seed=len(content)):
            file.write_bytes(flipped)
            try:
                loaded = load()
            except ValueError:
                refused += 1
                continue
            found = answers(loaded)
            assert found.keys() == right.keys()
            assert all(torch.equal(value, found[name]) for name, value in right.items())
    finally:
        file.write_bytes(content)
    return refused


@pytest.fixture
def n_flips(request):
    return MANY if request.config.getoption("--slow") else FEW


@pytest.mark.parametrize("kind", ["model.pt", "adata.h5ad"])
def test_checkpoints(trained, saved, n_flips, kind):
    folder = saved / "checkpoint"
    refused = count_refused(folder / kind, lambda: DBDiffusion.load(folder), answers(trained), n_flips)
    assert refused > 0.9 * n_flips


def test_checkpoints_without_a_seal(trained, plain, n_flips):
    assert count_refused(plain / "model.pt", lambda: DBDiffusion.load(plain, adata=False), answers(trained), n_flips)


@pytest.mark.parametrize("kind", ["model.json", "weights-*.safetensors"])
def test_exported_weights(trained, saved, n_flips, kind):
    folder = saved / "weights"
    refused = count_refused(next(folder.glob(kind)), lambda: DBDiffusion.load_weights(folder), answers(trained), n_flips)
    assert refused > 0.8 * n_flips


def test_a_name_that_reads_otherwise_is_noticed(saved):
    """The lowest bit of a letter leaves a description whole and readable."""
    file = saved / "weights" / "model.json"
    content = file.read_bytes()
    for word in (b'"GENE00"', b'"control"', b'"is_trained_": true', b'"added_perturbations_"'):
        place = content.index(word) + 2
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(ValueError, match=r"changed after it was written|is not whole JSON"):
            DBDiffusion.load_weights(saved / "weights")
    file.write_bytes(content)
