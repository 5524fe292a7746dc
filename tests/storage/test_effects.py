"""Laws of effects as AnnData: every number has its place, and a store is what the whole table would be."""

import json

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


@pytest.mark.parametrize("chunk", [1, 3, 7, 20])
def test_a_store_is_the_table_however_it_is_cut(tmp_path, chunk):
    frame = table()
    names = list(frame["target"].unique())
    store = write_effects(tmp_path / "a.zarr", names, lambda some: frame[frame["target"].isin(some)], chunk)
    read, expected = ad.read_zarr(store), to_anndata(frame)
    assert read.obs_names.tolist() == names
    assert read.var_names.tolist() == expected.var_names.tolist()
    for layer in expected.layers:
        assert np.array_equal(read.layers[layer], expected.layers[layer])
    assert np.array_equal(read.X, expected.X)
    assert read.obs["status"].tolist() == expected.obs["status"].tolist()
    assert "parameters" in read.uns
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_a_run_that_was_killed_goes_on_and_asks_nothing_twice(tmp_path):
    frame = table()
    names, asked = list(frame["target"].unique()), []

    def answer(some, most=99):
        if len(asked) == most:
            raise KeyboardInterrupt
        asked.append(some)
        return frame[frame["target"].isin(some)]

    with pytest.raises(KeyboardInterrupt):
        write_effects(tmp_path / "a.zarr", names, lambda some: answer(some, 2), 2)
    assert not (tmp_path / "a.zarr").exists()
    with pytest.raises(ValueError, match="another list of targets"):
        write_effects(tmp_path / "a.zarr", names[1:], answer, 2)
    store = write_effects(tmp_path / "a.zarr", names, answer, 2)
    assert asked == [names[i : i + 2] for i in range(0, T, 2)]
    assert np.array_equal(ad.read_zarr(store).X, to_anndata(frame).X)
    with pytest.raises(FileExistsError, match="exists already"):
        write_effects(store, names, answer, 2)
