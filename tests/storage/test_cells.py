import anndata as ad
import numpy as np
import pandas as pd
import pytest

from dbdiffusion.storage import _cells
from dbdiffusion.storage._cells import InMemory, check_memory, installed_memory, on_disk

N, G = 11, 7
COUNTS = np.random.default_rng(0).poisson(0.7, (N, G)).astype(np.float32)
OBS = pd.DataFrame({"kind": pd.Categorical(list("aabbaabbaab"))}, index=[f"c{i}" for i in range(N)])
VAR = pd.DataFrame(index=[f"g{i}" for i in range(G)])


def filled(cells, sizes=(4, 1, 6)):
    start = 0
    for size in sizes:
        cells.add(COUNTS[start : start + size])
        start += size
    return cells.finish(OBS, VAR, {"made": {"seed": 3, "by": "x"}})


@pytest.mark.parametrize("sizes", [(4, 1, 6), (11,), (1,) * 11])
def test_blocks_become_one_matrix_in_memory_and_on_disk(tmp_path, sizes):
    memory = filled(InMemory(N), sizes)
    with on_disk(tmp_path / "cells.h5ad", G) as cells:
        filled(cells, sizes)
    for one in (memory, ad.read_h5ad(tmp_path / "cells.h5ad")):
        assert np.array_equal(one.X.toarray(), COUNTS)
        assert one.X.format == "csr"
        assert one.X.has_canonical_format
        pd.testing.assert_frame_equal(one.obs, OBS)
        assert one.uns["made"]["seed"] == 3


def test_rows_of_a_file_can_be_read_a_few_at_a_time(tmp_path):
    with on_disk(tmp_path / "cells.h5ad", G) as cells:
        filled(cells)
    backed = ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    assert np.array_equal(backed[3:6].to_memory().X.toarray(), COUNTS[3:6])
    backed.file.close()


def test_a_failure_leaves_no_file(tmp_path):
    def fail():
        with on_disk(tmp_path / "cells.h5ad", G) as cells:
            cells.add(COUNTS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_more_cells_than_memory_holds_are_refused_after_a_block(monkeypatch):
    monkeypatch.setattr(_cells, "installed_memory", lambda: 1e6)
    cells = InMemory(10**7)
    with pytest.raises(ValueError, match=r"10,000,000 cells.*path='cells.h5ad'"):
        cells.add(COUNTS)
    InMemory(N).add(COUNTS)


def test_memory_is_known_or_infinite(monkeypatch):
    assert installed_memory() > 1e8
    monkeypatch.delattr(_cells.os, "sysconf", raising=False)
    assert installed_memory() == float("inf")
    check_memory(10**15, 1e6)
