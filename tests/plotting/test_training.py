import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from dbdiffusion.plotting import cell_map, losses

N_EPOCHS = 7


@pytest.fixture
def ax():
    return Figure().subplots()


def history(*keys, offset=0):
    return {
        key: pd.DataFrame(
            {key: np.linspace(10 + i, 1 + i, N_EPOCHS)}, index=pd.RangeIndex(offset, offset + N_EPOCHS, name="epoch")
        )
        for i, key in enumerate(keys)
    }


KEYS = {"vae": ("elbo_train", "elbo_validation"), "diffusion": ("diffusion_train_loss", "diffusion_validation_loss")}


@pytest.mark.parametrize("stage", sorted(KEYS))
def test_losses_draws_both_curves_of_the_stage(ax, stage):
    table = history(*KEYS["vae"], *KEYS["diffusion"])
    assert losses(table, ax, stage) is ax
    assert [line.get_label() for line in ax.lines] == ["training", "validation"]
    for line, key in zip(ax.lines, KEYS[stage], strict=True):
        np.testing.assert_allclose(line.get_ydata(), table[key][key])
        np.testing.assert_array_equal(line.get_xdata(), np.arange(N_EPOCHS))
    assert ax.get_title() == f"stage: {stage}"
    assert ax.get_xlabel() == "epoch"


def test_stages_have_their_own_units(ax):
    losses(history(*KEYS["vae"]), ax, "vae")
    other = losses(history(*KEYS["diffusion"]), Figure().subplots(), "diffusion")
    assert (ax.get_ylabel(), other.get_ylabel()) == ("negative ELBO", "velocity error")


def test_losses_without_validation(ax):
    table = history("elbo_train")
    table["elbo_validation"] = table["elbo_train"].iloc[:0]
    losses(table, ax, "vae")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["training"]


def test_losses_of_object_columns_and_any_epochs(ax):
    table = {key: frame.astype(object) for key, frame in history(*KEYS["vae"], offset=5).items()}
    losses(table, ax, "vae")
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), np.arange(5, 5 + N_EPOCHS))
    assert ax.lines[0].get_ydata().dtype == float


def test_another_stage_is_refused(ax):
    with pytest.raises(KeyError):
        losses(history(*KEYS["vae"]), ax, "flow")


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    kind = rng.permutation(np.repeat(["control", "observed", "generated"], [11, 7, 5]))
    return pd.DataFrame({"x": rng.random(23), "y": rng.random(23), "kind": kind})


def test_cell_map_draws_every_cell_once_under_its_kind(ax, cells):
    assert cell_map(cells, ax, title="MYC") is ax
    assert [c.get_label() for c in ax.collections] == ["control", "observed", "generated"]
    for collection in ax.collections:
        expected = cells.loc[cells["kind"] == collection.get_label(), ["x", "y"]]
        np.testing.assert_allclose(collection.get_offsets(), expected)
    assert ax.get_title() == "MYC"
    assert len(ax.get_xticks()) == len(ax.get_yticks()) == 0


def test_cell_map_colours_differ(ax, cells):
    cell_map(cells, ax)
    assert len({tuple(c.get_facecolor()[0]) for c in ax.collections}) == 3


def test_cell_map_leaves_out_kinds_without_cells(ax, cells):
    cell_map(cells[cells["kind"] != "observed"], ax)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["control", "generated"]
