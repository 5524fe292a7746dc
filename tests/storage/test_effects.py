"""Laws of effects as AnnData: every number has its place, and a store is what the whole table would be."""

import json
import shutil
import signal
import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from dbdiffusion.storage import to_anndata, write_effects

T, G = 7, 11


def table(targets=T, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"KO{i}" for i in range(targets)]
    frame = pd.DataFrame({"target": np.repeat(names, G), "variable": np.tile([f"g{i}" for i in range(G)], targets)})
    for column in ("effect", "se", "df", "lfsr", "adj_p_value", "ci_low", "ci_high", "p_value"):
        frame[column] = rng.random(len(frame))
    frame["status"] = np.where(frame["target"] == "KO0", "measured", "unseen")
    frame.attrs = {"confidence": 0.95, "told_apart": {"KO1": False}}
    return frame


def test_every_number_has_its_place_whatever_the_order_of_rows():
    frame = table()
    effects = to_anndata(frame)
    again = to_anndata(frame.sample(frac=1, random_state=0))[effects.obs_names, effects.var_names]
    for layer, column in {"effect": "effect", "q": "adj_p_value", "ci_low": "ci_low"}.items():
        expected = frame.pivot(index="target", columns="variable", values=column)
        assert np.allclose(effects.to_df(layer).loc[expected.index, expected.columns], expected)
        assert np.array_equal(again.layers[layer], effects.layers[layer])
    assert np.array_equal(effects.X, effects.layers["effect"])
    assert effects.obs["status"].tolist() == ["measured", *["unseen"] * (T - 1)]
    assert effects.obs["told_apart"].tolist() == [True, False, *[True] * (T - 2)]
    assert json.loads(effects.uns["parameters"])["confidence"] == 0.95


def test_tables_with_holes_or_contexts_are_refused_in_words():
    with pytest.raises(ValueError, match="one row for each of 7 targets and 11 genes, got 76"):
        to_anndata(table()[1:])
    both = pd.concat([table().assign(context=name) for name in ("early", "late")])
    with pytest.raises(ValueError, match="holds 2 contexts"):
        to_anndata(both)


def answers(frame, asked=None):
    """What is said of some targets of a table, and to whom it was said."""

    def answer(some):
        if asked is not None:
            asked.append(some)
        return to_anndata(frame[frame["target"].isin(some)])

    return answer


def content(store):
    """Every file below a folder, byte for byte."""
    return {file.relative_to(store): file.read_bytes() for file in store.rglob("*") if file.is_file()}


def test_nothing_is_said_of_next_versions_of_others(tmp_path, recwarn):
    frame = table()
    write_effects(tmp_path / "a.zarr", list(frame["target"].unique()), answers(frame), 3)
    assert not [one for one in recwarn if "autosharding" in str(one.message) or "Consolidated" in str(one.message)]


@pytest.mark.parametrize("chunk", [1, 3, 7, 20])
def test_a_store_is_the_table_however_it_is_cut(tmp_path, chunk):
    frame = table()
    names = list(frame["target"].unique())
    store = write_effects(tmp_path / "a.zarr", names, answers(frame), chunk)
    read, expected = ad.read_zarr(store), to_anndata(frame)
    assert read.obs_names.tolist() == names
    assert read.var_names.tolist() == expected.var_names.tolist()
    for layer in expected.layers:
        assert np.array_equal(read.layers[layer], expected.layers[layer])
    assert np.array_equal(read.X, expected.X)
    assert read.obs["status"].tolist() == expected.obs["status"].tolist()
    assert read.uns["parameters"] == expected.uns["parameters"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_parts_in_any_order_are_the_whole(tmp_path):
    frame = table()
    names, asked = list(frame["target"].unique()), []
    whole = write_effects(tmp_path / "whole.zarr", names, answers(frame), 2)
    for part in ((3, 3), (1, 3), (2, 3)):
        write_effects(tmp_path / "parts.zarr", names, answers(frame, asked), 2, part)
        assert not (tmp_path / "parts.zarr").exists()
    assert sorted(asked) == [names[i : i + 2] for i in range(0, T, 2)]
    parts = write_effects(tmp_path / "parts.zarr", names, answers(frame, asked), 2)
    assert len(asked) == 4
    assert content(parts) == content(whole)


KILLED = """
import os, signal, sys
import pandas as pd
from dbdiffusion.storage import _effects

frame = pd.read_pickle(sys.argv[1])
names, asked, said = list(frame["target"].unique()), [], _effects.whole_file

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def answer(some):
    asked.append(some)
    if len(asked) == 3 and sys.argv[3] == "between blocks":
        die()
    return _effects.to_anndata(frame[frame["target"].isin(some)])

_effects.whole_file = lambda file: die() if len(asked) == 3 else said(file)  # the numbers are written, but not that they are
_effects.write_effects(sys.argv[2], names, answer, 2)
"""


@pytest.mark.parametrize("when", ["between blocks", "inside a block"])
def test_a_run_that_was_killed_goes_on_and_asks_nothing_twice(tmp_path, when):
    frame = table()
    frame.to_pickle(tmp_path / "table.pickle")
    names, asked = list(frame["target"].unique()), []
    store = tmp_path / "a.zarr"
    ended = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "table.pickle", store, when], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not store.exists()
    for other in ({"targets": names[1:]}, {"chunk": 3}, {"asked": "another model"}):
        with pytest.raises(ValueError, match="of other targets, of other options or of another model"):
            write_effects(**{"store": store, "targets": names, "answer": answers(frame), "chunk": 2} | other)
    write_effects(store, names, answers(frame, asked), 2)
    assert asked == [names[4:6], names[6:]]
    whole = write_effects(tmp_path / "whole.zarr", names, answers(frame), 2)
    assert content(store) == content(whole)
    with pytest.raises(FileExistsError, match="exists already"):
        write_effects(store, names, answers(frame), 2)


def test_what_is_left_of_an_ended_run_is_not_taken_for_a_new_one(tmp_path):
    frame = table()
    names, asked = list(frame["target"].unique()), []
    write_effects(tmp_path / "a.zarr", names, answers(frame), 3, (1, 2))
    shutil.rmtree(tmp_path / ".a.zarr.unfinished" / "store.zarr")
    write_effects(tmp_path / "a.zarr", names, answers(frame, asked), 3)
    assert len(asked) == 3


def test_parameters_of_kinds_are_put_together(tmp_path):
    frame = table()
    names = list(frame["target"].unique())

    def answer(some):
        part = frame[frame["target"].isin(some)].copy()
        part.attrs = {"weights": {"single" if "KO0" in some else "combination": {"knn": 1.0}}}
        return to_anndata(part)

    read = ad.read_zarr(write_effects(tmp_path / "a.zarr", names, answer, 4))
    assert set(json.loads(read.uns["parameters"])["weights"]) == {"single", "combination"}
